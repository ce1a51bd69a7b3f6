"""Penalties on the input gradient outside the object: GradMask and Right for the Right Reasons."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from torch import Tensor

from vitreous.models.attention import scaled_gradients
from vitreous.training.objectives.base import OBJECTIVES, LossTerm, Step, WeightedObjective

Gradient = Literal["second_order", "released"]
INPUT_GRADIENTS = frozenset({"masks", "input_gradients"})


def input_gradient(step: Step, score: Tensor, gradient: Gradient) -> Tensor:
    """Derive a score with respect to the normalised pictures (B, 3, H, W).

    Pictures here are in [0, 1] and the published penalties are in normalised units, which differ
    by the standard deviation. `released` gives a constant, as the published code does for want of
    `create_graph`: the penalty is reported and trains nothing.
    """
    (found,) = scaled_gradients(
        score, [step.batch.images], create_graph=gradient == "second_order", retain_graph=True
    )
    return found * step.classifier.std.to(found.dtype)


@OBJECTIVES.register("gradmask")
@dataclasses.dataclass(frozen=True)
class GradMask(WeightedObjective):
    """`MSE(∂ logit_label / ∂ x ∘ (1 - M), 0)` (Simpson et al. 2019).

    Attributes:
        weight: Factor in the sum.
        gradient: `second_order`: the penalty trains the weights; `released`: it does not, as in
            RobustViT's published baseline.
    """

    weight: float = 1.0
    gradient: Gradient = "second_order"
    needs: ClassVar[frozenset[str]] = INPUT_GRADIENTS

    def __call__(self, step: Step) -> LossTerm:
        """Return the mean square over all pixels and channels of masked rows."""
        rows = step.batch.has_mask
        if not rows.any():
            return LossTerm(step.logits.sum() * 0.0)
        score = step.logits.float().gather(1, step.batch.labels[:, None]).sum()
        saliency = input_gradient(step, score, self.gradient)[rows]
        loss = (saliency * (1 - step.batch.masks[rows])).square().mean()
        return LossTerm(loss, {"penalty": loss.detach()})


@OBJECTIVES.register("rrr")
@dataclasses.dataclass(frozen=True)
class RightForTheRightReasons(WeightedObjective):
    """`Σ (∂ Σ_k log(softmax_k + 1e-11) / ∂ x ∘ (1 - M))²` (Ross et al. 2017), a sum over the batch.

    Attributes:
        weight: Factor in the sum.
        gradient: `second_order`: the penalty trains the weights; `released`: it does not, as in
            RobustViT's published baseline.
    """

    weight: float = 1.0
    gradient: Gradient = "second_order"
    needs: ClassVar[frozenset[str]] = INPUT_GRADIENTS

    def __call__(self, step: Step) -> LossTerm:
        """Return the sum of squares over all pixels, channels and masked rows."""
        rows = step.batch.has_mask
        if not rows.any():
            return LossTerm(step.logits.sum() * 0.0, reduction="sum")
        score = (step.logits.float().softmax(1) + 1e-11).log().sum()
        saliency = input_gradient(step, score, self.gradient)[rows]
        loss = (saliency * (1 - step.batch.masks[rows])).square().sum()
        return LossTerm(loss, {"penalty": loss.detach() / len(rows)}, reduction="sum")
