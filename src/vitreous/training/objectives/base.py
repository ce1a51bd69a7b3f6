"""What an objective is, and what it gets: one `Step` of the engine."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, Protocol

from torch import Tensor, nn

from vitreous.data.batch import Batch
from vitreous.models import Classifier
from vitreous.models.forward import ForwardPass, record_forward
from vitreous.ranges import SHARE, at_least
from vitreous.registry import Registry


@dataclasses.dataclass
class Step:
    """One forward pass, shared by all objectives.

    In validation objectives are called without gradients; what they derive even then, they derive
    under `torch.enable_grad()`: the graph of the pass is there if it was asked for.

    Attributes:
        model: The model (wrapped for several processes if need be), for objectives that need
            further forward passes; images in [0, 1] → logits.
        classifier: The same model unwrapped.
        batch: What went in: `images` are those of the forward pass, perturbed by the adversary
            if there is one.
        clean: The images before the adversary; the same tensor without one.
        forward: The pass, recorded as the objectives need it.
        progress: Share of the training that is done, in [0, 1].
        memory: What objectives remember from step to step, by their names; changed in place and
            kept in every checkpoint. Nothing of it outlives a step of validation.
        group_sizes: (G,) images of each group in the training set; None in validation, and where
            the data has no groups.
    """

    model: nn.Module
    classifier: Classifier
    batch: Batch
    clean: Tensor
    forward: ForwardPass
    progress: float = 0.0
    memory: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    group_sizes: Tensor | None = None
    _clean_step: Step | None = dataclasses.field(default=None, init=False, repr=False)

    @property
    def logits(self) -> Tensor:
        """Logits (B, C) of the pass."""
        return self.forward.logits

    def zero(self) -> Tensor:
        """A loss of 0 that depends on every weight the logits depend on.

        Several processes wait for the gradient of each weight that their pass used.
        """
        return (self.logits.float() * 0.0).sum()

    def again(self, images: Tensor, *, recorded: bool) -> Step:
        """The same step after one more forward pass, of other images of the same rows.

        The pass goes through the unwrapped model: several processes may make different numbers of
        such passes, and the wrapped one would wait for the others.

        Args:
            images: (B, 3, H, W) in [0, 1].
            recorded: Record attention.
        """
        forward = record_forward(
            self.classifier,
            images,
            attention=recorded,
            inputs_suffice=bool(self.forward.inputs),
        )
        batch = dataclasses.replace(self.batch, images=images)
        return dataclasses.replace(self, batch=batch, clean=images, forward=forward)

    @property
    def on_clean(self) -> Step:
        """The same step seen on the clean images: itself without an adversary.

        With one it costs a second forward pass, made once for all objectives that ask, and
        recorded if this one was.
        """
        if self.clean is self.batch.images:
            return self
        if self._clean_step is None:
            self._clean_step = self.again(self.clean, recorded=self.forward.recorded)
        return self._clean_step


@dataclasses.dataclass(frozen=True)
class LossTerm:
    """A scalar loss, not yet weighted, and detached figures to log.

    Attributes:
        loss: The scalar.
        log: Figures, each a mean over the rows that the loss is of.
        reduction: Whether the loss is a mean over rows, a mean over the rows that have a mask, or
            a sum, so that several processes give the gradient of one.
    """

    loss: Tensor
    log: dict[str, float | Tensor] = dataclasses.field(default_factory=dict)
    reduction: Literal["mean", "masked_mean", "sum"] = "mean"


@dataclasses.dataclass(frozen=True)
class MapsWanted:
    """Relevance maps that an objective takes of a pass, where a compiled graph can make them.

    Attributes:
        method: Relevance method, which holds the gradients of attention constant.
        start_layer: First attention layer that counts.
        target: Class whose maps are taken: the `label`, or the `prediction`.
    """

    method: str
    start_layer: int
    target: str


@dataclasses.dataclass(frozen=True)
class WeightedObjective:
    """What the settings of all objectives share: a weight, which may change over time.

    Attributes:
        weight: Factor of the loss in the sum.
        ramp: Shares of the training between which the weight grows linearly from 0 to `weight`;
            [0.5, 0.0] lets it fall to 0 by the middle instead. Constant where not given.
    """

    weight: Annotated[float, at_least(0)] = 1.0
    ramp: Annotated[tuple[float, float], SHARE] | None = dataclasses.field(
        default=None, kw_only=True
    )

    def __post_init__(self) -> None:
        if self.ramp is not None and self.ramp[0] == self.ramp[1]:
            raise ValueError(f"ramp: expected two different shares, found {list(self.ramp)}")

    @property
    def maps_wanted(self) -> MapsWanted | None:
        """The maps that a compiled pass makes for it; None where it takes none, or others."""
        return None

    def weight_at(self, progress: float) -> float:
        """The weight at a share of the training in [0, 1]; validation weighs as at its end."""
        if self.ramp is None:
            return self.weight
        start, end = self.ramp
        return self.weight * min(1.0, max(0.0, (progress - start) / (end - start)))


class Objective(Protocol):
    """Frozen settings and a call; `WeightedObjective` gives an objective its weight.

    Attributes:
        needs: Some of `masks`, `groups` (of every training image), `attention` (the forward pass is
            recorded), `input_gradients` (the images of the forward pass require a gradient); with
            `attention_inputs` beside `attention`, the layers' inputs serve in place of their maps.
    """

    @property
    def needs(self) -> frozenset[str]: ...  # noqa: D102

    @property
    def maps_wanted(self) -> MapsWanted | None: ...  # noqa: D102

    def weight_at(self, progress: float) -> float:
        """Factor of the loss in the sum at a share of the training."""
        ...

    def __call__(self, step: Step) -> LossTerm:
        """Return the unweighted loss of one step: a mean over the rows that it can use."""
        ...


OBJECTIVES: Registry[type[Objective]] = Registry("objective", "vitreous.training.objectives")
