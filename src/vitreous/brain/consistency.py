"""Noise ceilings: how well a recording predicts itself from half of its repetitions."""

from __future__ import annotations

import numpy as np

from vitreous.brain.score import Score, aggregate
from vitreous.brain.splits import Splits
from vitreous.errors import VitreousError
from vitreous.statistics import pearson

HALVES = Splits(number=10, train_size=0.5, seed=1)


def spearman_brown(r: np.ndarray | float) -> np.ndarray:
    """Correct a correlation of halves for the length of the whole: 2r / (1 + r).

    Examples:
        >>> float(spearman_brown(0.5))
        0.6666666666666666
    """
    r = np.asarray(r, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2.0 * r / (1.0 + r)


def average_trials(trials: np.ndarray) -> np.ndarray:
    """Mean over the repetitions that exist: repetitions × images × neuroids → images × neuroids.

    Raises:
        VitreousError: If some image has no trial at all for some neuroid.

    Examples:
        >>> average_trials(np.array([[[1.0, 2.0]], [[3.0, np.nan]]])).tolist()
        [[2.0, 2.0]]
    """
    trials = _check(trials)
    present = ~np.isnan(trials)
    counts = present.sum(axis=0)
    if (counts == 0).any():
        images = int((counts == 0).any(axis=1).sum())
        raise VitreousError(f"{images} images have no trial for some neuroid; drop them")
    return np.where(present, trials, 0.0).sum(axis=0) / counts


def internal_consistency(trials: np.ndarray, splits: Splits = HALVES) -> Score:
    """Split-half consistency with the Spearman–Brown correction, as Brain-Score's ceiling.

    Args:
        trials: repetitions × images × neuroids, NaN where a trial is missing. An image that
            lacks a trial in one half is left out of that neuroid's correlation.
        splits: How to halve; by default ten random halves over repetitions, seed 1.

    Returns:
        The consistency (median over neuroids, mean over splits), its error, and the corrected
        correlations of splits × neuroids.

    Raises:
        VitreousError: For fewer than two repetitions, or infinities.

    Examples:
        >>> pattern = np.random.default_rng(0).normal(size=(1, 20, 3))
        >>> round(internal_consistency(np.repeat(pattern, 4, axis=0)).score, 6)
        1.0
    """
    trials = _check(trials)
    if len(trials) < 2:
        raise VitreousError(
            f"a noise ceiling needs at least 2 repetitions, found {len(trials)}: give the trials "
            "before averaging"
        )
    present = ~np.isnan(trials)
    if not present.any(axis=(1, 2)).all():
        trials = trials[present.any(axis=(1, 2))]
        return internal_consistency(trials, splits)
    halves = splits.draw(len(trials))
    raw = np.stack([spearman_brown(_half_correlation(trials, a, b)) for a, b in halves])
    return aggregate(raw)


def _half_correlation(trials: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    a, b = _mean(trials[first]), _mean(trials[second])
    both = ~(np.isnan(a) | np.isnan(b))
    if both.all():
        return pearson(a, b)
    columns = [
        pearson(a[ok, j : j + 1], b[ok, j : j + 1])[0] if (ok := both[:, j]).sum() > 1 else np.nan
        for j in range(a.shape[1])
    ]
    return np.array(columns)


def _mean(trials: np.ndarray) -> np.ndarray:
    present = ~np.isnan(trials)
    counts = present.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(present, trials, 0.0).sum(axis=0) / np.where(counts > 0, counts, np.nan)


def _check(trials: np.ndarray) -> np.ndarray:
    trials = np.asarray(trials, dtype=np.float64)
    if trials.ndim != 3:
        raise VitreousError(
            f"trials: expected repetitions × images × neuroids, found shape {trials.shape}"
        )
    if np.isinf(trials).any():
        raise VitreousError(f"trials hold {int(np.isinf(trials).sum())} infinite values")
    return trials
