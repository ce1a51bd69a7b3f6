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


def descending_orders(values: np.ndarray) -> np.ndarray:
    """Places of each row's values (B, N), the largest first; of equal ones those that come first.

    Of float32 a value's bits and its place make one whole number, so that one sort of numbers,
    which is far faster than a stable one of places, has no ties to decide.

    Returns:
        (B, N) int64.
    """
    if values.dtype != np.float32:
        return np.argsort(-values, axis=1, kind="stable")
    bits = (values + np.float32(0)).view(np.uint32)  # + 0: the two zeros are equal
    # Bits of negative numbers grow as the numbers fall; those of others come after them.
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    keys = (~ascending).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(values.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
