"""Statistics that several rooms need: chance-corrected agreement, correlation, intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

# Student's t, two-sided 95 %, for the 19 degrees of freedom of twenty groups.
GROUPS = 20
STUDENT = 2.093
# Of the standard normal, two-sided 95 %.
NORMAL_QUANTILE = 1.959963984540054


def cohens_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Compute error consistency: agreement of two vectors of correctness beyond chance.

    Args:
        first: (N,) boolean or 0/1; NaN where there is no answer.
        second: (N,), the same images.

    Returns:
        Cohen's kappa (Geirhos et al. 2020) over the images that both answered; NaN where there
        are none or where chance alone gives full agreement.
    """
    return float(cohens_kappas(first, second))


def cohens_kappas(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute `cohens_kappa` along the last axis of arrays that broadcast: (…, N) → (…)."""
    a, b = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    both = np.isfinite(a) & np.isfinite(b)
    n = both.sum(axis=-1)
    right, other = (a > 0.5) & both, (b > 0.5) & both
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = right.sum(axis=-1) / n, other.sum(axis=-1) / n
        expected = p * q + (1 - p) * (1 - q)
        observed = ((right == other) & both).sum(axis=-1) / n
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Bound the difference of two proportions of the same items.

    95 % for paired proportions (Agresti and Min 2005: half an item added to each cell), which has
    a width also where the two never differ.

    Args:
        gained: Items that only the second has right.
        lost: Items that only the first has right.
        n: All items.
    """
    n, more, less = n + 2, gained + 0.5, lost + 0.5
    half = NORMAL_QUANTILE * math.sqrt(more + less - (more - less) ** 2 / n) / n
    middle = (more - less) / n
    return max(-1.0, middle - half), min(1.0, middle + half)


def kappa_interval(
    first: np.ndarray, second: np.ndarray, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Bound `cohens_kappa` by drawing items with replacement (the counts of its four cells).

    Args:
        first: (N,) bool.
        second: (N,) bool, the same items.
        draws: Bootstrap samples.
        seed: Of the draws.

    Returns:
        95 % interval; None where kappa is not defined.
    """
    if not len(first) or not math.isfinite(cohens_kappa(first, second)):
        return None
    cells = np.bincount(2 * first.astype(int) + second, minlength=4).astype(np.float64)
    never_differ = not cells[1:3].any()
    if never_differ or first.all() or second.all() or not (first.any() and second.any()):
        cells += 0.5  # drawn with no spread otherwise, see `paired_interval`
    cells /= cells.sum()
    shares = np.random.default_rng(seed).multinomial(len(first), cells, size=draws) / len(first)
    p, q = shares[:, 2] + shares[:, 3], shares[:, 1] + shares[:, 3]
    expected = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappas = (shares[:, 0] + shares[:, 3] - expected) / (1 - expected)
    return percentile_interval(kappas)


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column of two arrays; NaN where a column is constant."""
    a = first - first.mean(axis=0)
    b = second - second.mean(axis=0)
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    floor = np.finfo(np.float64).eps * len(first)
    scale = np.abs(first).max(axis=0, initial=0) * np.abs(second).max(axis=0, initial=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(axis=0) / norms
    return np.where(norms > floor * scale, np.clip(r, -1.0, 1.0), np.nan)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two vectors (N,); equal values share the mean of their ranks.

    Entries that are not numbers in either are left out; NaN where fewer than three are left or one
    side is constant.
    """
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 3:
        return float("nan")
    return float(pearson(_ranks(first[known]), _ranks(second[known])))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]


def rdm_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of the upper triangles of two dissimilarity matrices (N, N)."""
    upper = np.triu_indices(len(first), k=1)
    return spearman(first[upper], second[upper])


def percentile_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of bootstrap samples; None where none is a number."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def grouped_interval(value: float, moved: np.ndarray, groups: int) -> tuple[float, float] | None:
    """A 95 % interval of a mean, or of a sum of means, over items that come in groups.

    Args:
        value: The mean.
        moved: (G,) how far each group moves it from where the others have it: the group's own sum
            less its number of items times the mean, over all items (the linearized variance of a
            ratio, Cochran 1977).
        groups: How many of these have items; the others move nothing.

    Returns:
        value ± 2.093 standard errors (Student's t of 19 degrees), or None for fewer than twenty
        groups, or where no group differs from another.
    """
    if groups < GROUPS or not np.isfinite(value) or not np.any(moved):
        return None
    half = STUDENT * float(np.sqrt((moved**2).sum() * groups / (groups - 1)))
    return value - half, value + half


def jackknife_interval(
    measure: Callable[[np.ndarray], float], n: int, value: float, seed: int = 0
) -> tuple[float, float] | None:
    """A 95 % interval over items for measures of pairs, which a bootstrap's doubles would bias.

    The items are dealt into twenty groups, the measure is taken without each of them, and the
    spread gives the standard error (delete-a-group jackknife, Kott 2001).

    Args:
        measure: From the indices of the items kept to the measure.
        n: Number of items.
        value: The measure of all of them.
        seed: Of the dealing.

    Returns:
        value ± 2.093 standard errors (Student's t of 19 degrees), or None for fewer than forty
        items or a measure that is not defined.
    """
    if n < 2 * GROUPS or not np.isfinite(value):
        return None
    order = np.random.default_rng(seed).permutation(n)
    left_out = np.array(
        [measure(np.sort(np.delete(order, slice(g, n, GROUPS)))) for g in range(GROUPS)]
    )
    if not np.isfinite(left_out).all():
        return None
    half = STUDENT * float(np.sqrt((GROUPS - 1) * left_out.var()))
    return value - half, value + half
