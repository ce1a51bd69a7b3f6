"""What an objective is, and what it gets: one `Step` of the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from vitreous.data.batch import Batch
from vitreous.models import Classifier
from vitreous.models.forward import ForwardPass, record_forward
from vitreous.ranges import SHARE, at_least
from vitreous.registry import Registry


class FurtherPasses(Protocol):
    """Makes a step's further passes in another way than by calling the model."""

    def again(self, batch: Batch, images: Tensor, classes: Tensor | None = None) -> ForwardPass:
        """The pass of other images (B, 3, H, W) of the rows of a batch, recorded as the first.

        Where maps are made in it, they are of the classes (B,), if these are given.
        """
        ...

    def logits(self, images: Tensor, *, rows_vary: bool = False) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W), of which there may be more or fewer each time."""
        ...


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
        passes: Makes further passes, where they are not made by the model itself.
    """

    model: nn.Module
    classifier: Classifier
    batch: Batch
    clean: Tensor
    forward: ForwardPass
    progress: float = 0.0
    memory: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    group_sizes: Tensor | None = None
    passes: FurtherPasses | None = None
    _clean_steps: dict[bool, Step] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @property
    def logits(self) -> Tensor:
        """Logits (B, C) of the pass."""
        return self.forward.logits

    def zero(self) -> Tensor:
        """A loss of 0 that depends on every weight the logits depend on.

        Several processes wait for the gradient of each weight that their pass used.
        """
        return (self.logits.float() * 0.0).sum()

    def again(self, images: Tensor, *, recorded: bool, classes: Tensor | None = None) -> Step:
        """The same step after one more forward pass, of other images of the same rows.

        The pass goes through the unwrapped model: several processes may make different numbers of
        such passes, and the wrapped one would wait for the others.

        Args:
            images: (B, 3, H, W) in [0, 1].
            recorded: Record attention.
            classes: (B,) whose maps will be asked for, where the objective's target does not say.
        """
        if self.passes is not None:
            forward = self.passes.again(self.batch, images, classes)
        else:
            forward = record_forward(
                self.classifier,
                images,
                attention=recorded,
                inputs_suffice=bool(self.forward.inputs),
            )
        batch = dataclasses.replace(self.batch, images=images)
        return dataclasses.replace(self, batch=batch, clean=images, forward=forward)

    def logits_of(self, images: Tensor) -> Tensor:
        """Logits (R, C) of one more pass, of images (R, 3, H, W) made from some of the rows."""
        if self.passes is not None:
            return self.passes.logits(images, rows_vary=True)
        return self.classifier(images)

    @property
    def on_clean(self) -> Step:
        """The same step seen on the clean images: itself without an adversary.

        With one it costs a second forward pass, made once for all objectives that ask, and
        recorded if this one was.
        """
        return self.on_clean_of(None)

    def on_clean_of(self, classes: Tensor | None) -> Step:
        """`on_clean`, of which the maps of some classes (B,) will be asked for.

        Maps that are made in the pass itself are of its own target unless classes are given, so
        there may be two such passes.
        """
        if self.clean is self.batch.images:
            return self
        given = classes is not None and self.forward.maps is not None
        if given not in self._clean_steps:
            recorded = self.forward.recorded
            made = self.again(self.clean, recorded=recorded, classes=classes if given else None)
            self._clean_steps[given] = made
        return self._clean_steps[given]


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
        method: Relevance method.
        start_layer: First attention layer that counts.
        target: Class whose maps are taken: the `label`, or the `prediction`.
        second_order: The gradients of attention are derived too.
    """

    method: str
    start_layer: int
    target: str
    second_order: bool = False


@dataclasses.dataclass(frozen=True)
class GradientWanted:
    """A gradient for the images that an objective takes of a pass, made where that is compiled.

    Attributes:
        score: Logits (B, C) and labels (B,) → the scalar that is derived.
        second_order: The gradient is derived itself; else it is a constant.
    """

    score: Callable[[Tensor, Tensor], Tensor]
    second_order: bool


@runtime_checkable
class DerivesImages(Protocol):
    """An objective whose gradient for the images a compiled pass can make."""

    @property
    def gradient_wanted(self) -> GradientWanted: ...  # noqa: D102


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
