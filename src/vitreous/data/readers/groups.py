"""Another source with its images dealt anew: groups of one size, or errors shown more often."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from vitreous.config import part
from vitreous.data.dataset import Dataset
from vitreous.data.readers.background_groups import group_counts
from vitreous.data.readers.base import READERS, Reader, Split
from vitreous.data.readers.tables import PATH_COLUMNS, read_rows
from vitreous.errors import VitreousError
from vitreous.ranges import at_least


@READERS.register("balanced")
@dataclasses.dataclass(frozen=True)
class Balanced:
    """Another source, with as many training images of each group.

    Last-layer retraining (DFR, Kirichenko et al. 2023) takes few images of each group; GroupDRO's
    published code shows the groups equally often.

    Attributes:
        source: Where the images come from; they need groups.
        to: `smallest` leaves images of larger groups out by chance; `largest` shows those of
            smaller groups several times.
    """

    source: Reader | None = part(READERS)
    to: Literal["smallest", "largest"] = "smallest"

    def __post_init__(self) -> None:
        if self.source is None:
            raise ValueError("expected a source")

    def load(self, seed: int) -> Split:
        """Load the source and deal its training images.

        Raises:
            VitreousError: If the source has no groups.
        """
        assert self.source is not None
        split = self.source.load(seed)
        rows = balanced_rows(require_groups(split.train, "data.name balanced"), self.to, seed)
        train = split.train.select(rows)
        note = {**split.note, "groups": group_counts(train)}
        return dataclasses.replace(split, train=train, note=note)


def require_groups(dataset: Dataset, what: str) -> np.ndarray:
    """(N,) groups of a dataset.

    Raises:
        VitreousError: If an image has none.
    """
    if dataset.groups is None or (dataset.groups < 0).any():
        raise VitreousError(
            f"{what} needs the group of every training image and the data has none; add a column "
            "group to the list (path,label,group), or use data.name background_groups"
        )
    return dataset.groups


def balanced_rows(groups: np.ndarray, to: str, seed: int) -> np.ndarray:
    """Rows that show every group as often, sorted.

    Args:
        groups: (N,) group of each image.
        to: `smallest` or `largest` group, whose size all get.
        seed: Decides which rows are left out, or shown once more than others.
    """
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    sizes = [len(rows) for rows in members]
    count = min(sizes) if to == "smallest" else max(sizes)
    random = np.random.default_rng(seed)
    return np.sort(np.concatenate([np.resize(random.permutation(rows), count) for rows in members]))


@READERS.register("upweighted_errors")
@dataclasses.dataclass(frozen=True)
class UpweightedErrors:
    """Another source, with the images that a first model has wrong shown more often.

    That is the second stage of JTT (Just Train Twice, Liu et al. 2021). The first is a training of
    few epochs, and `vitreous evaluate RUN --data LIST`, whose `predictions.csv` says which images
    it has wrong.

    Attributes:
        predictions: The `predictions.csv` of the first model on the training images.
        source: Where the images come from.
        factor: How often an image that it has wrong is shown in an epoch, in place of once.
    """

    predictions: str
    source: Reader | None = part(READERS)
    factor: Annotated[int, at_least(1)] = 20

    def __post_init__(self) -> None:
        if self.source is None:
            raise ValueError("expected a source, whose errors are in the predictions")

    def load(self, seed: int) -> Split:
        """Load the source and repeat its errors.

        Raises:
            VitreousError: If the predictions are not of these images.
        """
        assert self.source is not None
        split = self.source.load(seed)
        names = [split.train.name(index) for index in range(len(split.train))]
        wrong = read_errors(Path(self.predictions).expanduser(), names)
        rows = np.repeat(np.arange(len(names)), np.where(wrong, self.factor, 1))
        note = {**split.note, "errors": int(wrong.sum()), "shown": len(rows)}
        return dataclasses.replace(split, train=split.train.select(rows), note=note)


def read_errors(path: Path, names: list[str]) -> np.ndarray:
    """Which images a table of predictions has wrong: (N,) bool.

    Args:
        path: A `predictions.csv` of `vitreous evaluate`: columns `file` and `correct`.
        names: The images.

    Raises:
        VitreousError: If it lacks a column, or an image.
    """
    header, rows = read_rows(path)
    where = next((name for name in PATH_COLUMNS if name in header), None)
    if where is None or "correct" not in header:
        raise VitreousError(
            f"{path}: expected the columns file,correct of a predictions.csv, found "
            f"{', '.join(header) or 'no rows'}"
        )
    answers = {row[where]: row["correct"] for _, row in rows}
    if missing := [name for name in names if name not in answers]:
        raise VitreousError(
            f"{path} lacks {len(missing)} of {len(names)} training images, the first is "
            f"{missing[0]}; evaluate the first model on the list that data.source reads"
        )
    return np.array([answers[name] != "True" for name in names])
