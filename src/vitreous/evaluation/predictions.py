"""What a classifier answered on one set: rows with what they mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vitreous.data.dataset import Dataset
from vitreous.evaluation.test_sets import Convention, TestSet
from vitreous.evaluation.test_sets.base import Condition
from vitreous.models import Preprocessing


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a classifier answered on one set.

    Attributes:
        test_set: The set.
        rows: One for each image, sorted by index; see `scoring.row_type`.
        reasons: Why images could not be read: index → reason.
        preprocessing: How the images were prepared.
        condition: What was done to them, for records: `{}`, `{"angle": 90.0}`, …
        folder: Where the rows are; None where they are nowhere.

    Examples:
        >>> from vitreous.data.readers.generated import Generated
        >>> from vitreous.evaluation.scoring import row_type
        >>> from vitreous.evaluation.test_sets.base import single
        >>> scenes = Generated(size=32, train=2, validation=1).load(0).train
        >>> photos = TestSet("scenes", scenes, scenes.labels, single(8))
        >>> rows = np.zeros(2, row_type(photos.conventions))
        >>> Predictions(photos, rows, {}, Preprocessing()).counted.tolist()
        [True, True]
    """

    test_set: TestSet
    rows: np.ndarray
    reasons: dict[int, str]
    preprocessing: Preprocessing
    condition: Condition = dataclasses.field(default_factory=Condition)
    folder: Path | None = None

    @property
    def dataset(self) -> Dataset:
        """The images."""
        return self.test_set.dataset

    @property
    def conventions(self) -> tuple[Convention, ...]:
        """The rules under which the rows were scored."""
        return self.test_set.conventions

    @property
    def counted(self) -> np.ndarray:
        """(N,) bool: images that count under the first convention."""
        return self.counted_by(0)

    def counted_by(self, convention: int) -> np.ndarray:
        """(N,) bool: images that have an accepted class among a convention's candidates.

        Unreadable images count too, as wrong.
        """
        candidates = self.conventions[convention].classes
        among = None if candidates is None else set(candidates)
        some = [
            bool(classes) and (among is None or not among.isdisjoint(classes))
            for classes in self.test_set.accepted
        ]
        return np.array(some)[self.test_set.targets[self.rows["index"]]]

    def correct(self, convention: int = 0, top: int = 1) -> np.ndarray:
        """(N,) bool: an accepted class is among the first `top` candidates."""
        return self.rows[f"rank{convention}"] < top
