"""Figures of a step or an epoch, over all processes of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from vitreous.errors import DivergedError
from vitreous.training.progress import Progress


def agree(accelerator: Accelerator, names: Iterable[str]) -> list[str]:
    """All names that any process has, sorted; all of a run's processes must call it together."""
    return sorted({name for own in gather_object([list(names)]) for name in own})


class Figures:
    """Averages figures over processes, which may not all have the same ones.

    A process whose rows have no mask has no figures of masked rows. Which names there are is
    exchanged only when a new one appears.

    Args:
        accelerator: Of the run.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.names: list[str] = []

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean over processes, brought to the host at once; one that lacks a figure counts as 0."""
        if self.accelerator.num_processes == 1:
            table = torch.stack([_scalar(value) for value in values.values()])
            return dict(zip(values, table.tolist()))
        while True:
            new = float(bool(values.keys() - set(self.names)))
            zero = torch.zeros((), device=self.accelerator.device)
            own = [_scalar(values.get(name, zero)) for name in self.names]
            has = [zero + float(name in values) for name in self.names]
            table = self.accelerator.reduce(torch.stack([zero + new, *own, *has]), "mean")
            any_new, *figures = table.tolist()
            if not any_new:
                break
            self.names = agree(self.accelerator, [*self.names, *values])
        count = len(self.names)
        return {
            name: value
            for name, value, there in zip(self.names, figures[:count], figures[count:])
            if there
        }


def require_finite(values: Mapping[str, float], progress: Progress, kept: Path) -> None:
    """Stop at a loss that is not a number, before it reaches the weights.

    Args:
        values: The step's figures, `loss` among them.
        progress: Where the run stands.
        kept: The checkpoint of the last good state.

    Raises:
        DivergedError: With the figures that are not finite, and what to do.
    """
    if math.isfinite(values["loss"]):
        return
    parts = ", ".join(f"{k} {v:.3g}" for k, v in values.items() if not math.isfinite(v))
    raise DivergedError(
        f"the loss is not finite at step {progress.step + 1} (epoch {progress.epoch + 1}): "
        f"{parts}; the last good state is kept in {kept}; lower optimizer.lr, set "
        "training.clip_norm, or use training.precision float32"
    )


def _scalar(value: Tensor) -> Tensor:
    return value.to(torch.float32).reshape(())
