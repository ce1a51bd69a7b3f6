"""Ranks of the pixels of a map, by sorting alone: what `scipy.stats.rankdata` gives, faster."""

from __future__ import annotations

import numpy as np


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 of values (N,); of equal values each has the mean of their ranks.

    Returns:
        (N,) float64.
    """
    order = np.argsort(values)
    ordered = values[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(first, len(values)))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    return ranks


def most_relevant(values: np.ndarray, count: int) -> np.ndarray:
    """Which of values (N,) are the `count` largest, as bool; of equal ones the first in order."""
    if count == 0:
        return np.zeros(len(values), bool)
    least = np.partition(values, len(values) - count)[len(values) - count]
    above, equal = values > least, values == least
    return above | (equal & (np.cumsum(equal) <= count - above.sum()))


def descending_order(values: np.ndarray) -> np.ndarray:
    """Places of values (N,), the largest first; of equal ones those that come first."""
    order = np.argsort(-values)
    ordered = values[order]
    tied = (ordered[1:] == ordered[:-1]).any()
    return np.argsort(-values, kind="stable") if tied else order
