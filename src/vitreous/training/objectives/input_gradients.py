"""Penalties on the input gradient outside the object: GradMask and Right for the Right Reasons."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from vitreous.models.gradients import scaled_gradients
from vitreous.ranges import at_least
from vitreous.training.objectives.base import (
    OBJECTIVES,
    GradientWanted,
    LossTerm,
    Step,
    WeightedObjective,
)

Gradient = Literal["second_order", "released"]


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


@dataclasses.dataclass(frozen=True)
class InputGradientPenalty(WeightedObjective, abc.ABC):
    """Frame of a penalty on a score's gradient for the pixels outside the object.

    A subclass says which score is derived and how the squares are added.

    Attributes:
        weight: Factor in the sum.
        gradient: `second_order`: the penalty trains the weights; `released`: it does not, as in
            RobustViT's published baseline.
    """

    weight: Annotated[float, at_least(0)] = 1.0
    gradient: Gradient = "second_order"
    needs: ClassVar[frozenset[str]] = frozenset({"masks", "input_gradients"})
    reduction: ClassVar[Literal["masked_mean", "sum"]]

    def __call__(self, step: Step) -> LossTerm:
        """Return the penalty on the rows that have a mask."""
        rows = step.batch.has_mask
        if not rows.any():
            return LossTerm(step.zero(), reduction=self.reduction)
        saliency = self.saliency(step)[rows]
        squares = (saliency * (1 - step.batch.masks[rows])).square()
        loss = squares.sum() if self.reduction == "sum" else squares.mean()
        logged = loss.detach() / (len(rows) if self.reduction == "sum" else 1)
        return LossTerm(loss, {"penalty": logged}, self.reduction)

    @property
    def gradient_wanted(self) -> GradientWanted:
        """The gradient of its score."""
        return GradientWanted(self.score, self.gradient == "second_order")

    def saliency(self, step: Step) -> Tensor:
        """The gradient (B, 3, H, W) of the score for the normalized images."""
        made = step.forward.derived.get(self.gradient_wanted)
        if made is not None:
            return made * step.classifier.std.to(made.dtype)
        score = functools.partial(self.score, labels=step.batch.labels)
        return input_gradient(step, score, self.gradient)

    @staticmethod
    @abc.abstractmethod
    def score(logits: Tensor, labels: Tensor) -> Tensor:
        """The scalar that is derived, of logits (B, C) and labels (B,)."""


@OBJECTIVES.register("gradmask")
@dataclasses.dataclass(frozen=True)
class GradMask(InputGradientPenalty):
    """`MSE(∂ logit_label / ∂ x ∘ (1 - M), 0)` (Simpson et al. 2019), over pixels and channels."""

    reduction = "masked_mean"

    @staticmethod
    def score(logits: Tensor, labels: Tensor) -> Tensor:
        """The labels' logits, added."""
        return logits.gather(1, labels[:, None]).sum()


@OBJECTIVES.register("rrr")
@dataclasses.dataclass(frozen=True)
class RightForTheRightReasons(InputGradientPenalty):
    """`Σ (∂ Σ_k log(softmax_k + 1e-11) / ∂ x ∘ (1 - M))²` (Ross et al. 2017), a sum over the batch.

    What is logged is the sum for an image of the batch.
    """

    reduction = "sum"

    @staticmethod
    def score(logits: Tensor, labels: Tensor) -> Tensor:
        """All log-probabilities, added; no class is asked for."""
        return (logits.softmax(1) + 1e-11).log().sum()
