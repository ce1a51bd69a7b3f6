"""Random splits as Brain-Score draws them: scikit-learn's, on NumPy's legacy generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitreous.errors import VitreousError

Split = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Splits:
    """How pictures are split; the defaults are Brain-Score's.

    Attributes:
        number: How many random splits.
        train_size: Share of the pictures that train, unless `test_size` is given.
        test_size: Share of the pictures that are held out.
        seed: Seed of the generator.
    """

    number: int = 10
    train_size: float | None = 0.9
    test_size: float | None = None
    seed: int = 1

    def draw(self, n: int, groups: Sequence[Any] | np.ndarray | None = None) -> list[Split]:
        """Draw the splits.

        Args:
            n: Number of pictures.
            groups: One label a picture; each split then holds the labels' shares (stratified).

        Returns:
            Sorted (train, test) indices a split.

        Raises:
            VitreousError: If the labels do not match or some label is too rare.
        """
        from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

        train = None if self.test_size is not None else self.train_size
        sizes = {"train_size": train, "test_size": self.test_size, "random_state": self.seed}
        if groups is not None and len(groups) != n:
            raise VitreousError(f"groups: expected one a picture ({n}), found {len(groups)}")
        if self.number < 1:
            raise VitreousError(f"splits: expected at least 1, found {self.number}")
        try:
            if groups is None:
                drawn = ShuffleSplit(self.number, **sizes).split(np.zeros(n))
            else:
                labels = np.asarray(groups)
                drawn = StratifiedShuffleSplit(self.number, **sizes).split(np.zeros(n), labels)
            return [(np.sort(train), np.sort(test)) for train, test in drawn]
        except ValueError as error:
            raise VitreousError(f"cannot split {n} pictures: {error}") from error
