"""Where a run stands: what is stored with each state, so that it can go on."""

from __future__ import annotations

import dataclasses
from typing import TypedDict, cast


class ProgressValues(TypedDict):
    """The fields of `Progress`, as they are stored."""

    epoch: int
    position: int
    step: int
    best: float | None
    best_epoch: int
    seconds: float
    robust: list[float]
    clean_accuracies: list[float]
    warnings: list[str]


@dataclasses.dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch: Epochs done.
        position: Batches done in the present epoch.
        step: Optimiser steps done.
        best: Best value of the selection metric so far.
        best_epoch: Epoch it came from.
        seconds: Time spent.
        robust: Accuracy under attack before the first and after each epoch.
        clean_accuracies: Accuracy of the same images unperturbed.
        warnings: What robust validation reported.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    robust: list[float] = dataclasses.field(default_factory=list)
    clean_accuracies: list[float] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def values(self) -> ProgressValues:
        """The fields, to be stored."""
        return cast(ProgressValues, dict(vars(self)))
