"""One gradient step of an attack: derive a loss for the images, and move along it in a ball."""

from __future__ import annotations

import warnings
from collections.abc import Callable, MutableMapping

import torch
from torch import Tensor

from vitreous.attacks.norms import Norm, project, steepest
from vitreous.models.gradients import scaled_gradients

Model = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor], Tensor]


class LostGradientWarning(UserWarning):
    """A gradient of the images was not finite, so their perturbation is not what it should be."""


def loss_and_gradient(
    model: Model,
    inputs: Tensor,
    loss: Loss,
    state: MutableMapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Derive a loss for the inputs of a model, and for nothing else.

    The losses are added in float32; in fp16 they are scaled, so that small gradients do not
    underflow (`vitreous.models.gradients`).

    Args:
        model: Inputs → logits (B, C).
        inputs: (B, 3, H, W): images, or perturbations of them.
        loss: Logits in float32 → loss (B,).
        state: Holds the loss scale from call to call; changed in place.

    Returns:
        Logits (B, C), loss (B,) and gradient (B, 3, H, W), which may hold values not finite.
    """
    with torch.enable_grad():
        variable = inputs.detach().requires_grad_()
        raw = model(variable)
        logits = raw.float()
        values = loss(logits)
    (gradient,) = scaled_gradients(
        values.sum(), [variable], half=raw.dtype == torch.float16, state=state
    )
    return logits.detach(), values.detach(), gradient


@torch.no_grad()
def loss_only(model: Model, images: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Logits (B, C) and loss (B,)."""
    logits = model(images).float()
    return logits, loss(logits)


def ascend(
    start: Tensor,
    gradient: Tensor,
    step_size: float | Tensor,
    epsilon: float,
    norm: Norm,
    center: Tensor | float = 0.0,
) -> Tensor:
    """Take one step along the gradient and stay in a ball.

    Args:
        start: (B, 3, H, W): images around `center`, or perturbations around 0.
        gradient: (B, 3, H, W) of the loss there; values that are not finite do not move.
        step_size: Length of the step, one or one each (B, 1, 1, 1).
        epsilon: Radius of the ball around `center`.
        norm: Of the step and of the ball.
        center: Centre of the ball.

    Returns:
        The perturbation (B, 3, H, W): how far the end is from the centre.
    """
    direction = steepest(gradient.nan_to_num(0.0, 0.0, 0.0), norm).to(start.dtype)
    return project(start + step_size * direction - center, epsilon, norm)


def warn_of_lost(gradient: Tensor) -> None:
    """Say so where a gradient is not finite: its sign would be 0 without a word."""
    if bool(gradient.sum().isfinite()):
        return
    rows = int((~gradient.flatten(1).isfinite()).any(1).sum())
    warnings.warn(
        f"the adversary's gradient is not finite in {rows} of {len(gradient)} pictures, which "
        "stay unperturbed there; lower the learning rate, or train in bfloat16 or float32",
        LostGradientWarning,
        stacklevel=4,
    )
