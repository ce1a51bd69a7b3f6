"""Cross entropy on the label, or on the model's own prediction."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import VitreousError
from vitreous.ranges import SHARE, above, at_least
from vitreous.training.objectives.base import OBJECTIVES, LossTerm, Step, WeightedObjective

Target = Literal["label", "prediction"]


@runtime_checkable
class Targeted(Protocol):
    """An objective that is about one class of each image: the label's, or the predicted one."""

    @property
    def target(self) -> Target: ...  # noqa: D102


def mixed_targets(step: Step, target: Target) -> Tensor:
    """What an objective asks for: classes (B,), or shares of them (B, C) where rows are mixed."""
    mixed = step.batch.targets
    return mixed if mixed is not None and target == "label" else target_classes(step, target)


def target_classes(step: Step, target: Target) -> Tensor:
    """The classes (B,) that an objective speaks of: the labels, or what the model predicts now.

    Raises:
        VitreousError: If labels are asked for and the images have none.
    """
    if target == "prediction":
        return step.logits.detach().argmax(1)
    if (step.batch.labels < 0).any():
        raise VitreousError(
            "these pictures have no labels; set the objective's target to prediction, for example "
            "--objectives.relevance.target prediction"
        )
    return step.batch.labels


@OBJECTIVES.register("classification")
@dataclasses.dataclass(frozen=True)
class Classification(WeightedObjective):
    """Cross entropy of logits / temperature.

    Attributes:
        weight: Factor in the sum.
        target: `label`, or `prediction`: what the model itself predicts now, as RobustViT does
            to keep it (Chefer et al. 2022, eq. 5).
        temperature: Divides the logits (0.55 and 0.65 for DeiT-S and DeiT-B).
        label_smoothing: Share of the target that is spread over all classes.
    """

    weight: Annotated[float, at_least(0)] = 1.0
    target: Target = "label"
    temperature: Annotated[float, above(0)] = 1.0
    label_smoothing: Annotated[float, SHARE] = 0.0
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, found {self.temperature}")

    def __call__(self, step: Step) -> LossTerm:
        """Return the mean cross entropy, and the accuracy on the labels."""
        logits = step.logits.float()
        loss = F.cross_entropy(
            logits / self.temperature,
            mixed_targets(step, self.target),
            label_smoothing=self.label_smoothing,
        )
        correct = (logits.detach().argmax(1) == step.batch.labels).float().mean()
        return LossTerm(loss, {"accuracy": correct})
