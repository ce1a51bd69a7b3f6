"""Similarity of representations: dissimilarity matrices (RSA) and centred kernel alignment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vitreous.brain.checks import check_pair
from vitreous.brain.gram import gram
from vitreous.brain.score import Score, aggregate
from vitreous.brain.splits import Groups, Splits
from vitreous.errors import VitreousError
from vitreous.statistics import rdm_correlation

# The held-out side of each split is compared; Brain-Score leaves ten per cent out.
LEAVE_OUT = Splits(number=10, test_size=0.9, seed=1)


def rdm(features: np.ndarray) -> np.ndarray:
    """Representational dissimilarity: 1 − Pearson correlation of each two images' patterns.

    Args:
        features: images × units.

    Returns:
        images × images, zero on the diagonal. An image whose pattern is constant has NaN.

    Examples:
        >>> rdm(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])).round(6).tolist()
        [[0.0, 2.0], [2.0, 0.0]]
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.shape[1] < 2:  # one number is no pattern
        matrix = np.full((len(rows), len(rows)), np.nan)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = 1.0 - np.atleast_2d(np.corrcoef(rows))
    np.fill_diagonal(matrix, 0.0)
    return matrix


def compare_rdms(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman correlation of the upper triangles of two dissimilarity matrices.

    Entries that are NaN in either are left out.

    Raises:
        VitreousError: If the matrices are not square, of different sizes, or too small.

    Examples:
        >>> first = rdm(np.random.default_rng(0).normal(size=(5, 9)))
        >>> round(compare_rdms(first, first**2), 6)
        1.0
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] != first.shape[1]:
        raise VitreousError(
            f"dissimilarity matrices do not match: {first.shape} and {second.shape}; expected two "
            "square ones over the same images"
        )
    pairs = int(np.isfinite((first + second)[np.triu_indices(len(first), k=1)]).sum())
    if pairs < 3:
        raise VitreousError(f"only {pairs} pairs of images can be compared")
    return rdm_correlation(first, second)


def rdm_similarity(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Groups = None,
    *,
    splits: Splits | None = None,
) -> Score:
    """Spearman correlation of the two RDMs (Kriegeskorte et al. 2008; Brain-Score's `rdm`).

    Args:
        features: images × units.
        responses: images × neuroids, averaged over repetitions.
        groups: Labels for stratified splits, where `splits` is given.
        splits: Repeat on random subsets (`LEAVE_OUT` is Brain-Score's `rdm_cv`); none by default.

    Raises:
        VitreousError: If images and responses do not match or the responses hold NaN.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(20, 5))
        >>> round(rdm_similarity(features, 3 * features + 1).score, 6)
        1.0
    """
    return _over_splits(rdm_measure(features, responses), len(responses), groups, splits)


def rdm_measure(features: np.ndarray, responses: np.ndarray) -> Callable[[np.ndarray], float]:
    """Both RDMs, as a function from the indices of some images to their similarity."""
    responses = check_pair(features, responses)
    return similarity_of_subset(rdm(features), rdm(responses))


def similarity_of_subset(first: np.ndarray, second: np.ndarray) -> Callable[[np.ndarray], float]:
    """`compare_rdms` of two matrices, as a function of the indices of some images."""

    def on(index: np.ndarray) -> float:
        return compare_rdms(first[np.ix_(index, index)], second[np.ix_(index, index)])

    return on


def cka(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Groups = None,
    *,
    unbiased: bool = True,
    splits: Splits | None = None,
) -> Score:
    """Linear centred kernel alignment (Kornblith et al. 2019).

    Args:
        features: images × units, of any size; only its Gram matrix is formed.
        responses: images × neuroids.
        groups: Labels for stratified splits, where `splits` is given.
        unbiased: Use the unbiased estimator of HSIC (Song et al. 2007), as Brain-Score does now;
            it does not grow with the number of units. Else the biased one.
        splits: Repeat on random subsets (`LEAVE_OUT` is Brain-Score's `cka_cv`).

    Raises:
        VitreousError: If images and responses do not match, or fewer than 4 images.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(20, 5))
        >>> round(cka(features, 3 * features, unbiased=False).score, 6)
        1.0
    """
    return _over_splits(cka_measure(features, responses, unbiased), len(responses), groups, splits)


def cka_measure(
    features: np.ndarray, responses: np.ndarray, unbiased: bool = True
) -> Callable[[np.ndarray], float]:
    """Both Gram matrices, as a function from the indices of some images to their alignment."""
    responses = check_pair(features, responses)
    if len(responses) < 4:
        raise VitreousError(f"CKA needs at least 4 images, found {len(responses)}")
    first, second = gram(features), gram(responses)
    hsic = _unbiased_hsic if unbiased else _biased_hsic

    def on(index: np.ndarray) -> float:
        return _alignment(first[np.ix_(index, index)], second[np.ix_(index, index)], hsic)

    return on


def _alignment(
    first: np.ndarray, second: np.ndarray, hsic: Callable[[np.ndarray, np.ndarray], float]
) -> float:
    product = hsic(first, first) * hsic(second, second)
    return hsic(first, second) / product**0.5 if product > 0 else 0.0


def _biased_hsic(first: np.ndarray, second: np.ndarray) -> float:
    mean = first.mean(axis=0)
    centred = first - mean - mean[:, None] + mean.mean()
    return float((centred * second).sum())


def _unbiased_hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Song et al. 2007, up to the factor 1 / (n (n − 3)), which cancels."""
    n = len(first)
    k, q = first - np.diag(np.diag(first)), second - np.diag(np.diag(second))
    rows, columns = k.sum(axis=0), q.sum(axis=0)
    return float(
        (k * q).sum()
        + rows.sum() * columns.sum() / ((n - 1) * (n - 2))
        - 2.0 * (rows @ columns) / (n - 2)
    )


def _over_splits(
    measure: Callable[[np.ndarray], float], n: int, groups: Groups, splits: Splits | None
) -> Score:
    if splits is None:
        value = measure(np.arange(n))
        return Score(value, float("nan"), np.array([value]))
    return aggregate(np.array([measure(held) for _, held in splits.draw(n, groups)]))
