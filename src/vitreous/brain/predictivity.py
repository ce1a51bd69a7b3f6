"""Neural predictivity: regress responses on features in random splits, correlate, aggregate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypedDict, Unpack

import numpy as np

from vitreous.brain.backend import choose_backend
from vitreous.brain.checks import check_components, check_pair
from vitreous.brain.gram import Kernel, blas_threads
from vitreous.brain.pls import TOLERANCE, pls_predictions
from vitreous.brain.ridge import PENALTIES, ridge_predictions
from vitreous.brain.score import Score, aggregate
from vitreous.brain.splits import Groups, Split, Splits
from vitreous.statistics import pearson

logger = logging.getLogger(__name__)


class RegressionOptions(TypedDict, total=False):
    """What every regression takes; see `pls_predictivity`."""

    splits: Splits | None
    threads: int | None
    kernel: Kernel | None


def pls_predictivity(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Groups = None,
    *,
    components: int = 25,
    splits: Splits | None = None,
    tolerance: float | None = TOLERANCE,
    device: str = "cpu",
    threads: int | None = None,
    kernel: Kernel | None = None,
) -> Score:
    """Score features against responses by PLS regression as Brain-Score does.

    Args:
        features: images × units, of any size (a memory map is streamed).
        responses: images × neuroids, averaged over repetitions.
        groups: One label an image for stratified splits: the object or the texture.
        components: Number of PLS components.
        splits: How to split; by default Brain-Score's ten splits of 90 to 10 %.
        tolerance: 1e-6 stops the search for a component where scikit-learn does, as in
            Brain-Score; None solves to machine precision.
        device: `cpu` (NumPy), or a torch device.
        threads: Limit of BLAS threads; None leaves it.
        kernel: `Kernel.of(features)`, where it is used for several scores.

    Returns:
        The score (median over neuroids, mean over splits), its error, and r of splits × neuroids.

    Raises:
        VitreousError: If images and responses do not match, responses hold NaN, or there are
            fewer stimuli or units than components.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(40, 5))
        >>> score = pls_predictivity(features, features @ np.ones((5, 2)), components=5)
        >>> round(score.score, 6), score.raw.shape
        (1.0, (10, 2))
    """
    return pls_curve(
        features,
        responses,
        groups,
        counts=(components,),
        splits=splits,
        tolerance=tolerance,
        device=device,
        threads=threads,
        kernel=kernel,
    )[components]


def pls_curve(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Groups = None,
    *,
    counts: Sequence[int] = (1, 2, 5, 10, 25, 50),
    splits: Splits | None = None,
    tolerance: float | None = TOLERANCE,
    device: str = "cpu",
    threads: int | None = None,
    kernel: Kernel | None = None,
) -> dict[int, Score]:
    """Score several numbers of PLS components by one fit; see `pls_predictivity`.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(40, 5))
        >>> scores = pls_curve(features, features @ np.ones((5, 2)), counts=(1, 5))
        >>> sorted(scores), round(scores[5].score, 6)
        ([1, 5], 1.0)
    """
    responses = check_pair(features, responses)
    drawn = (splits or Splits()).draw(len(responses), groups)
    check_components(max(counts), len(drawn[0][0]), features.shape[1])
    with blas_threads(threads):
        kernel = kernel or Kernel.of(features)
        backend = choose_backend(device)
        predictions = pls_predictions(kernel, responses, drawn, counts, backend, tolerance)
    return {k: _score([p[k] for p in predictions], responses, drawn) for k in counts}


def ridge_predictivity(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Groups = None,
    *,
    penalty: float | Sequence[float] = 1.0,
    splits: Splits | None = None,
    threads: int | None = None,
    kernel: Kernel | None = None,
) -> Score:
    """Score by ridge regression with α = 1 (Brain-Score's), another, or the best of several.

    With several penalties the one of the smallest leave-one-out error on the training images is
    taken in each split. Other arguments and errors as for `pls_predictivity`.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(40, 5))
        >>> score = ridge_predictivity(features, features @ np.ones((5, 2)), penalty=(1e-6, 1.0))
        >>> round(score.score, 3)
        1.0
    """
    responses = check_pair(features, responses)
    drawn = (splits or Splits()).draw(len(responses), groups)
    with blas_threads(threads):
        kernel = kernel or Kernel.of(features)
        predictions, used = ridge_predictions(kernel, responses, drawn, penalty)
    logger.info("ridge penalties: %s", used)
    return _score(predictions, responses, drawn)


def ridge_cv_predictivity(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Groups = None,
    **options: Unpack[RegressionOptions],
) -> Score:
    """Score by ridge regression with the penalty chosen from Brain-Score's 99 values.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(40, 5))
        >>> round(ridge_cv_predictivity(features, features @ np.ones((5, 2))).score, 3)
        1.0
    """
    return ridge_predictivity(features, responses, groups, penalty=PENALTIES, **options)


def linear_predictivity(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Groups = None,
    **options: Unpack[RegressionOptions],
) -> Score:
    """Score by least squares; of smallest norm where there are more units than images.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(40, 5))
        >>> round(linear_predictivity(features, features @ np.ones((5, 2))).score, 6)
        1.0
    """
    return ridge_predictivity(features, responses, groups, penalty=0.0, **options)


def one_to_one(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Groups = None,
    *,
    splits: Splits | None = None,
    threads: int | None = None,
    block: int = 4096,
    kernel: Kernel | None = None,
) -> Score:
    """Score each neuroid by the one unit that correlates best with it on the training images.

    Brain-Score's `neuron_to_neuron` (Arend et al. 2018). Units that are constant in training are
    never chosen. Arguments and errors as for `pls_predictivity`; `kernel` has no use here.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(40, 5))
        >>> round(one_to_one(features, 2 * features[:, :3]).score, 6)
        1.0
    """
    responses = check_pair(features, responses)
    drawn = (splits or Splits()).draw(len(responses), groups)
    with blas_threads(threads):
        chosen = _best_units(features, responses, drawn, block)
    predictions = [
        np.stack([np.asarray(features[test, unit], dtype=np.float64) for unit in units], axis=1)
        for units, (_, test) in zip(chosen, drawn)
    ]
    return _score(predictions, responses, drawn)


def _best_units(
    features: np.ndarray, responses: np.ndarray, splits: list[Split], block: int
) -> np.ndarray:
    """Index of the best unit: splits × neuroids, by one pass over blocks of units."""
    shape = (len(splits), responses.shape[1])
    best, units = np.full(shape, -np.inf), np.zeros(shape, dtype=np.int64)
    for start in range(0, features.shape[1], block):
        piece = np.asarray(features[:, start : start + block], dtype=np.float64)
        for row, (train, _) in enumerate(splits):
            r = _standardised(piece[train]).T @ _standardised(responses[train])
            r = np.where(np.isnan(r), -np.inf, r)
            index = r.argmax(axis=0)
            value = r[index, np.arange(shape[1])]
            better = value > best[row]
            best[row][better], units[row][better] = value[better], start + index[better]
    return units


def _standardised(values: np.ndarray) -> np.ndarray:
    values = values - values.mean(axis=0)
    norm = np.linalg.norm(values, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, values / norm, np.nan)


def _score(predictions: list[np.ndarray], responses: np.ndarray, splits: list[Split]) -> Score:
    raw = np.stack([pearson(p, responses[test]) for p, (_, test) in zip(predictions, splits)])
    constant = int(np.isnan(raw).all(axis=0).sum())
    if constant:
        logger.warning("%d neuroids are constant in every split and are left out", constant)
    return aggregate(raw)
