"""What an objective is, and what it gets: one `Step` of the engine."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, Protocol

from torch import Tensor, nn

from vitreous.attention import AttentionTrace
from vitreous.data.batch import Batch
from vitreous.models import Classifier
from vitreous.registry import Registry


@dataclasses.dataclass
class Step:
    """One forward pass, shared by all objectives.

    Attributes:
        model: The model (wrapped for several processes if need be), for objectives that need
            further forward passes; pictures in [0, 1] → logits.
        classifier: The same model unwrapped.
        batch: What went in: `images` are those of the forward pass, perturbed by the adversary
            if there is one.
        clean: The pictures before the adversary; the same tensor without one.
        logits: (B, C).
        trace: Attention maps of the pass, if an objective needs them.
        progress: Share of the training that is done, in [0, 1].
    """

    model: nn.Module
    classifier: Classifier
    batch: Batch
    clean: Tensor
    logits: Tensor
    trace: AttentionTrace | None = None
    progress: float = 0.0

    @property
    def attention(self) -> AttentionTrace:
        """The trace, for objectives that said they need it."""
        if self.trace is None:
            raise RuntimeError("this objective needs attention: add 'attention' to its `needs`")
        return self.trace


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A scalar loss, not yet weighted, and detached figures to log.

    Attributes:
        loss: The scalar.
        log: Figures, each a mean over the rows of the batch.
        reduction: Whether the loss is a mean or a sum over rows, so that several processes give
            the gradient of one.
    """

    loss: Tensor
    log: dict[str, float | Tensor] = dataclasses.field(default_factory=dict)
    reduction: Literal["mean", "sum"] = "mean"


class Objective(Protocol):
    """Frozen settings and a call.

    Attributes:
        needs: Any of `masks`, `attention` (the forward pass is recorded), `input_gradients`
            (the pictures of the forward pass require a gradient).
    """

    needs: ClassVar[frozenset[str]]

    @property
    def weight(self) -> float:
        """Factor of the loss in the sum."""
        ...

    def __call__(self, step: Step) -> Outcome:
        """Return the unweighted loss of one step: a mean over the rows that it can use."""
        ...


OBJECTIVES: Registry[type[Objective]] = Registry("objective", "vitreous.objectives")
