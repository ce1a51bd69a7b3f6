"""What a data source is, and the split of a set into training and validation."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from vitreous.data.items import ImageDataset
from vitreous.errors import VitreousError
from vitreous.registry import Registry


@dataclasses.dataclass(frozen=True)
class Split:
    """What a source gives.

    Attributes:
        train: Pictures to train on.
        validation: Pictures to choose the checkpoint on; may be empty.
        class_names: Names of the classes, in the order of the labels; empty if unknown.
        note: Plain values that are stored with the run: what was chosen, left out, skipped.
    """

    train: ImageDataset
    validation: ImageDataset
    class_names: list[str] = dataclasses.field(default_factory=list)
    note: dict[str, Any] = dataclasses.field(default_factory=dict)


class Reader(Protocol):
    """Frozen settings that find the pictures."""

    def load(self, seed: int) -> Split:
        """Find and split the pictures; the same seed gives the same split everywhere."""
        ...


READERS: Registry[type[Reader]] = Registry("data source", "vitreous.data.readers")


def split_by_class(
    labels: Sequence[int], seed: int, per_class: int | None, validation_share: float
) -> tuple[list[int], list[int]]:
    """Split by class: a share of each class validates, the rest (or a few of it) trains.

    Args:
        labels: Label of each picture, in a sorted order.
        seed: Of the shuffle.
        per_class: How many of each class train; None for all.
        validation_share: Share of each class that validates; at least one picture where it is
            positive and the class has more than one.

    Returns:
        Indices to train on and to validate on, each sorted.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        by_class[label].append(index)
    train, validation = [], []
    for label in sorted(by_class):
        members = np.random.default_rng([seed, label]).permutation(by_class[label]).tolist()
        held = round(len(members) * validation_share)
        if validation_share > 0 and len(members) > 1:
            held = min(max(held, 1), len(members) - 1)
        validation += members[:held]
        rest = members[held:]
        if per_class is not None and len(rest) < per_class:
            raise VitreousError(
                f"class {label} has {len(rest)} pictures to train on, expected at least "
                f"{per_class}; lower data.per_class"
            )
        train += rest[:per_class]
    return sorted(train), sorted(validation)
