"""What an objective is, and what it gets: one `Step` of the engine."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from vitreous.attention import AttentionTrace
from vitreous.registry import Registry


@dataclasses.dataclass
class Batch:
    """Pictures with what is known of them, all on one device.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        labels: (B,) int64.
        masks: (B, 1, H, W) in [0, 1], 1 = foreground; zeros in rows without a mask.
        has_mask: (B,) bool: which rows have a mask.
        indices: (B,) int64 place of each picture in its data set.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    has_mask: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> Batch:
        """Copy to a device."""
        return Batch(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass
class Step:
    """One forward pass, shared by all objectives.

    Attributes:
        model: The model (wrapped for several processes if need be), for objectives that need
            further forward passes; pictures in [0, 1] → logits.
        batch: What went in: `images` are those of the forward pass, perturbed by the adversary
            if there is one.
        clean: The pictures before the adversary; the same tensor without one.
        logits: (B, C).
        trace: Attention maps of the pass, if an objective needs them.
        progress: Share of the training that is done, in [0, 1].
    """

    model: nn.Module
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
    """A scalar loss, not yet weighted, and detached figures to log."""

    loss: Tensor
    log: dict[str, float | Tensor] = dataclasses.field(default_factory=dict)


class Objective(Protocol):
    """Frozen settings and a call.

    Attributes:
        needs: Any of `masks`, `attention` (the forward pass is recorded), `input_gradients`
            (the pictures of the forward pass require a gradient).
        weight: Factor of the loss in the sum.
    """

    needs: ClassVar[frozenset[str]]
    weight: float

    def __call__(self, step: Step) -> Outcome:
        """Return the unweighted loss of one step: a mean over the rows that it can use."""
        ...


OBJECTIVES: Registry[type[Objective]] = Registry("objective", "vitreous.objectives")
