"""Penalties on the input gradient outside the object: GradMask and Right for the Right Reasons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from vitreous.models.gradients import scaled_gradients
from vitreous.ranges import at_least
from vitreous.training.objectives.base import OBJECTIVES, LossTerm, Step, WeightedObjective

Gradient = Literal["second_order", "released"]
INPUT_GRADIENTS = frozenset({"masks", "input_gradients"})


def input_gradient(step: Step, score: Callable[[Tensor], Tensor], gradient: Gradient) -> Tensor:
    """Derive a score of the logits with respect to the normalized images (B, 3, H, W).

    Images here are in [0, 1] and the published penalties are in normalized units, which differ
    by the standard deviation. `released` gives a constant, as the published code does for want of
    `create_graph`: the penalty is reported and trains nothing.
    """
    second_order = gradient == "second_order" and torch.is_grad_enabled()
    with torch.enable_grad():
        value = score(step.logits.float())
    (derived,) = scaled_gradients(
        value, [step.batch.images], create_graph=second_order, retain_graph=True
    )
    return derived * step.classifier.std.to(derived.dtype)


@OBJECTIVES.register("gradmask")
@dataclasses.dataclass(frozen=True)
class GradMask(WeightedObjective):
    """`MSE(∂ logit_label / ∂ x ∘ (1 - M), 0)` (Simpson et al. 2019).

    Attributes:
        weight: Factor in the sum.
        gradient: `second_order`: the penalty trains the weights; `released`: it does not, as in
            RobustViT's published baseline.
    """

    weight: Annotated[float, at_least(0)] = 1.0
    gradient: Gradient = "second_order"
    needs: ClassVar[frozenset[str]] = INPUT_GRADIENTS

    def __call__(self, step: Step) -> LossTerm:
        """Return the mean square over all pixels and channels of masked rows."""
        rows = step.batch.has_mask
        if not rows.any():
            return LossTerm(step.zero(), reduction="masked_mean")
        labels = step.batch.labels[:, None]
        saliency = input_gradient(step, lambda z: z.gather(1, labels).sum(), self.gradient)[rows]
        loss = (saliency * (1 - step.batch.masks[rows])).square().mean()
        return LossTerm(loss, {"penalty": loss.detach()}, "masked_mean")


@OBJECTIVES.register("rrr")
@dataclasses.dataclass(frozen=True)
class RightForTheRightReasons(WeightedObjective):
    """`Σ (∂ Σ_k log(softmax_k + 1e-11) / ∂ x ∘ (1 - M))²` (Ross et al. 2017), a sum over the batch.

    Attributes:
        weight: Factor in the sum.
        gradient: `second_order`: the penalty trains the weights; `released`: it does not, as in
            RobustViT's published baseline.
    """

    weight: Annotated[float, at_least(0)] = 1.0
    gradient: Gradient = "second_order"
    needs: ClassVar[frozenset[str]] = INPUT_GRADIENTS

    def __call__(self, step: Step) -> LossTerm:
        """Return the sum of squares over all pixels, channels and masked rows."""
        rows = step.batch.has_mask
        if not rows.any():
            return LossTerm(step.zero(), reduction="sum")
        saliency = input_gradient(step, _log_probabilities, self.gradient)[rows]
        loss = (saliency * (1 - step.batch.masks[rows])).square().sum()
        return LossTerm(loss, {"penalty": loss.detach() / len(rows)}, reduction="sum")


def _log_probabilities(logits: Tensor) -> Tensor:
    return (logits.softmax(1) + 1e-11).log().sum()
