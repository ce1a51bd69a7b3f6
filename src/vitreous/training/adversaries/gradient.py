"""What the gradient adversaries share: their ball, and the gradient of the loss for pictures."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.attacks.norms import Norm
from vitreous.errors import VitreousError
from vitreous.models.head_tokens import head_tokens_only

FIRST_SCALE = 2.0**16
GROWTH_INTERVAL = 2000


class LostGradientWarning(UserWarning):
    """A gradient of the pictures was not finite, so their perturbation is not what it should be."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundedAdversary:
    """Settings of an adversary that stays in a ball.

    Attributes:
        epsilon: Radius of the ball, in units of the pictures ([0, 1]).
        norm: `linf` or `l2`.
        warmup: Share of the training during which radius and step grow linearly from 0.
        loss: What the adversary makes large: `cross_entropy` with the label, or `kl`, the
            divergence from the prediction for the clean picture (TRADES).
    """

    epsilon: float = 2 / 255
    norm: Norm = "linf"
    warmup: float = 0.0
    loss: Literal["cross_entropy", "kl"] = "cross_entropy"

    def __post_init__(self) -> None:
        if self.epsilon < 0:
            raise ValueError(f"expected an epsilon of at least 0, found {self.epsilon}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the training in [0, 1], found {self.warmup}")

    def growth(self, progress: float) -> float:
        """Factor of radius and step at a share of the training."""
        return 1.0 if self.warmup <= progress else progress / self.warmup

    def reference(self, model: nn.Module, images: Tensor) -> Tensor | None:
        """Log-probabilities (B, C) of the clean pictures, where the loss compares with them."""
        if self.loss == "cross_entropy":
            return None
        with torch.no_grad(), head_tokens_only(model):
            return F.log_softmax(model(images).float(), dim=1)


def image_gradient(
    model: nn.Module,
    images: Tensor,
    perturbation: Tensor,
    labels: Tensor,
    state: dict[str, Tensor],
    reference: Tensor | None = None,
) -> Tensor:
    """Gradient of the loss with respect to the perturbation, and to nothing else.

    In fp16 the loss is multiplied by a scale of its own (`state["loss_scale"]`), because the
    gradient of a mean over many pictures underflows; an overflow halves the scale and derives
    again from the same forward pass, so that no perturbation is lost.

    Args:
        model: Pictures in [0, 1] → logits.
        images: (B, 3, H, W) in [0, 1].
        perturbation: (B, 3, H, W); the model sees the sum, cut to [0, 1].
        labels: (B,) int64.
        state: Holds the loss scale; changed in place.
        reference: Log-probabilities (B, C) to depart from; the labels by default.

    Returns:
        (B, 3, H, W), up to a positive factor.

    Raises:
        VitreousError: If labels are needed and there are none.
    """
    if reference is None and bool((labels < 0).any()):
        raise VitreousError(
            "these pictures have no labels to drive away from; set adversary.loss kl, which "
            "departs from the model's own prediction"
        )
    with torch.enable_grad(), head_tokens_only(model):
        variable = perturbation.detach().requires_grad_()
        logits = model((images + variable).clamp(0, 1)).float()
        if reference is None:
            loss = F.cross_entropy(logits, labels)
        else:
            found = F.log_softmax(logits, dim=1)
            loss = F.kl_div(found, reference, log_target=True, reduction="batchmean")
    if not _half_precision(images.device):
        (gradient,) = torch.autograd.grad(loss, variable)
        return _finite(gradient)
    return _scaled_gradient(loss, variable, state)


def _scaled_gradient(loss: Tensor, variable: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Derive with dynamic loss scaling; the scale doubles after many steps without overflow."""
    scale = state.setdefault("loss_scale", torch.tensor(FIRST_SCALE, device=loss.device))
    steps = state.setdefault("loss_scale_steps", torch.tensor(0, device=loss.device))
    while True:
        (gradient,) = torch.autograd.grad(loss * scale, variable, retain_graph=True)
        if bool(gradient.isfinite().all()) or scale.item() <= 1:
            break
        scale.mul_(0.5)
        steps.fill_(-1)
    steps.add_(1)
    if steps.item() >= GROWTH_INTERVAL:
        scale.mul_(2)
        steps.zero_()
    return _finite(gradient)


def _finite(gradient: Tensor) -> Tensor:
    """Say so where a gradient is not finite: its sign would be 0 without a word."""
    if bool(gradient.sum().isfinite()):
        return gradient
    rows = int((~gradient.flatten(1).isfinite()).any(1).sum())
    warnings.warn(
        f"the adversary's gradient is not finite in {rows} of {len(gradient)} pictures, which "
        "stay unperturbed there; lower the learning rate, or train in bfloat16 or float32",
        LostGradientWarning,
        stacklevel=3,
    )
    return gradient.nan_to_num(0.0, 0.0, 0.0)


def _half_precision(device: torch.device) -> bool:
    kind = device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
