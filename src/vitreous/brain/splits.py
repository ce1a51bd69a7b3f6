"""Random splits as Brain-Score draws them: scikit-learn's, on NumPy's legacy generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import VitreousError

if TYPE_CHECKING:
    from sklearn.model_selection import BaseCrossValidator, BaseShuffleSplit

Split = tuple[np.ndarray, np.ndarray]
Groups = Sequence[object] | np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Splits:
    """How images are split; the defaults are Brain-Score's.

    Attributes:
        number: How many random splits.
        train_size: Share of the images that train, unless `test_size` is given.
        test_size: Share of the images that are held out.
        seed: Seed of the generator.
        folds: Number of folds instead, each of which is held out once (k-fold cross-validation,
            shuffled); `number`, `train_size` and `test_size` then have no meaning.

    Examples:
        >>> for train, test in Splits(folds=2).draw(4):
        ...     print(sorted([*train, *test]) == [0, 1, 2, 3], len(test))
        True 2
        True 2
    """

    number: int = 10
    train_size: float | None = 0.9
    test_size: float | None = None
    seed: int = 1
    folds: int | None = None

    def __str__(self) -> str:
        if self.folds is not None:
            return f"{self.folds} folds, seed {self.seed}"
        held = self.test_size if self.test_size is not None else 1 - (self.train_size or 0.0)
        return f"{self.number} x {held:.4g} held out, seed {self.seed}"

    def draw(self, n: int, groups: Groups = None) -> list[Split]:
        """Draw the splits.

        Args:
            n: Number of images.
            groups: One label an image; each split then holds the labels' shares (stratified).

        Returns:
            Sorted (train, test) indices a split.

        Raises:
            VitreousError: If the labels do not match or some label is too rare.
        """
        if groups is not None and len(groups) != n:
            raise VitreousError(f"groups: expected one an image ({n}), found {len(groups)}")
        if self.number < 1:
            raise VitreousError(f"splits: expected at least 1, found {self.number}")
        try:
            labels = None if groups is None else np.asarray(groups)
            drawn = self._splitter(labels is not None).split(np.zeros(n), labels)
            return [(np.sort(train), np.sort(test)) for train, test in drawn]
        except ValueError as error:
            raise VitreousError(f"cannot split {n} images: {error}") from error

    def _splitter(self, stratified: bool) -> BaseCrossValidator | BaseShuffleSplit:
        """scikit-learn's splitter of these settings."""
        from sklearn import model_selection

        if self.folds is not None:
            folds = model_selection.StratifiedKFold if stratified else model_selection.KFold
            return folds(self.folds, shuffle=True, random_state=self.seed)
        random = (
            model_selection.StratifiedShuffleSplit if stratified else model_selection.ShuffleSplit
        )
        return random(
            self.number,
            train_size=None if self.test_size is not None else self.train_size,
            test_size=self.test_size,
            random_state=self.seed,
        )
