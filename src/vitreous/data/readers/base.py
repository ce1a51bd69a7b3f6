"""What a recipe's data is, and the split of a dataset into training and validation."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from vitreous.data.dataset import UNKNOWN, Dataset, LeftOut
from vitreous.data.loading import Interleave
from vitreous.errors import ImageError, VitreousError
from vitreous.progress import ProgressBar
from vitreous.registry import Registry

OnError = Literal["error", "skip"]


@dataclasses.dataclass(frozen=True)
class Split:
    """What a recipe's data gives.

    Attributes:
        train: Images to train on.
        validation: Images to choose the checkpoint on; may be empty.
        note: Plain values that are stored with the run: what was chosen, left out, skipped.
        interleave: Rearranges the order of an epoch, see `epoch_batches`.
    """

    train: Dataset
    validation: Dataset
    note: dict[str, object] = dataclasses.field(default_factory=dict)
    interleave: Interleave | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the labels; empty if unknown."""
        return list(self.train.class_names)

    def relabelled(self, places: Sequence[int], class_names: Sequence[str]) -> Split:
        """The same images, whose classes have these places among other classes."""
        table = np.array([*places, UNKNOWN], dtype=np.int64)  # the last is that of a label of -1

        def relabel(dataset: Dataset) -> Dataset:
            labels = table[dataset.labels]
            return dataclasses.replace(dataset, labels=labels, class_names=tuple(class_names))

        return dataclasses.replace(
            self, train=relabel(self.train), validation=relabel(self.validation)
        )

    def describe(self) -> dict[str, object]:
        """The note, with what the readers passed over."""
        entries = dict.fromkeys((*self.train.left_out, *self.validation.left_out))
        passed = [str(entry) for entry in entries]
        return {**self.note, **({"passed_over": passed} if passed else {})}


class Reader(Protocol):
    """Frozen settings that find the images."""

    def load(self, seed: int) -> Split:
        """Find and split the images; the same seed gives the same split everywhere."""
        ...


READERS: Registry[type[Reader]] = Registry("data source", "vitreous.data.readers")


def split_by_class(
    labels: Sequence[int] | np.ndarray, seed: int, per_class: int | None, validation_share: float
) -> tuple[list[int], list[int]]:
    """Split by class: a share of each class validates, the rest (or a few of it) trains.

    Args:
        labels: Label of each image, in a sorted order.
        seed: Of the shuffle.
        per_class: How many of each class train; None for all.
        validation_share: Share of each class that validates; at least one image where it is
            positive and the class has more than one.

    Returns:
        Indices to train on and to validate on, each sorted.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        by_class[int(label)].append(index)
    train, validation = [], []
    for label in sorted(by_class):
        # A seed has no sign: images without a label (-1) are shuffled as a class 0 would be.
        random = np.random.default_rng([seed, max(label, 0)])
        members = random.permutation(by_class[label]).tolist()
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


def readable(dataset: Dataset, on_error: OnError) -> tuple[Dataset, list[str]]:
    """Leave out the images that cannot be read, if that is wanted.

    Args:
        dataset: The images.
        on_error: `error` tries none of them; `skip` tries all.

    Returns:
        The images to go on with, and a line about each that was left out.

    Raises:
        VitreousError: If none of them can be read.
    """
    if on_error == "error":
        return dataset, []
    good, bad, lines = [], [], []
    for index in ProgressBar(range(len(dataset)), desc="checking images", leave=False):
        try:
            _ = dataset[index]
            good.append(index)
        except ImageError as error:
            bad.append(dataset.name(index))
            lines.append(str(error))
    if not good:
        raise VitreousError(f"none of {len(dataset)} pictures can be read; the first: {lines[0]}")
    chosen = dataset.select(good)
    if not bad:
        return chosen, []
    left_out = (*dataset.left_out, LeftOut("images that cannot be read", tuple(bad)))
    return dataclasses.replace(chosen, left_out=left_out), lines
