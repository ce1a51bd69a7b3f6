"""Error consistency: do a model and people, or two people, fail on the same images?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitreous.brain.score import Score
from vitreous.errors import VitreousError
from vitreous.statistics import cohens_kappas, percentile_interval


def error_consistency(
    model: np.ndarray,
    human: np.ndarray,
    conditions: Sequence[object] | np.ndarray | None = None,
) -> Score:
    """Cohen's κ of which images are answered correctly (Geirhos et al. 2020).

    Args:
        model: Whether each image was answered correctly: images, boolean or 0/1.
        human: The same of people: subjects × images, NaN where a subject did not see one.
        conditions: A label an image; κ is computed in each and averaged over conditions, then
            over subjects.

    Returns:
        The mean κ (sign kept), its error over subjects, and κ of subjects × conditions.

    Raises:
        VitreousError: If the images do not match.

    Examples:
        >>> error_consistency(np.array([1, 0, 1, 0]), np.array([[1, 0, 1, 0], [1, 0, 0, 1]])).score
        0.5
    """
    first, second = _with_people(model, human)
    return _average(_by_condition(first, second, _parts(conditions, first.shape[1])))


def error_consistency_interval(
    model: np.ndarray,
    human: np.ndarray,
    conditions: Sequence[object] | np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of `error_consistency` over the images of each condition.

    Examples:
        >>> right = np.array([1, 0] * 10)
        >>> error_consistency_interval(right, right[None], resamples=50)
        (1.0, 1.0)
    """
    first, second = _with_people(model, human)
    return _interval(first, second, _parts(conditions, first.shape[1]), resamples, seed)


def consistency_of_people(
    human: np.ndarray, conditions: Sequence[object] | np.ndarray | None = None
) -> Score:
    """Error consistency of each pair of people, the ceiling for a model.

    Args:
        human: subjects × images, NaN where a subject did not see one.
        conditions: A label an image.

    Returns:
        The mean κ over conditions, then pairs; raw is pairs × conditions.

    Raises:
        VitreousError: For fewer than two subjects.

    Examples:
        >>> consistency_of_people(np.array([[1, 0, 1, 0], [1, 0, 1, 0]])).score
        1.0
    """
    first, second = _pairs(human)
    return _average(_by_condition(first, second, _parts(conditions, first.shape[1])))


def consistency_of_people_interval(
    human: np.ndarray,
    conditions: Sequence[object] | np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of `consistency_of_people` over the images of a condition."""
    first, second = _pairs(human)
    return _interval(first, second, _parts(conditions, first.shape[1]), resamples, seed)


def _with_people(model: np.ndarray, human: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of correctness, subjects × images: the model's in every row, and people's."""
    own = np.asarray(model, dtype=np.float64)
    people = np.atleast_2d(np.asarray(human, dtype=np.float64))
    if people.shape[1] != len(own):
        raise VitreousError(
            f"images do not match: {len(own)} of the model, {people.shape[1]} of the subjects"
        )
    return np.broadcast_to(own, people.shape), people


def _pairs(human: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both members of each pair of people: pairs × images, twice."""
    if len(human) < 2:
        raise VitreousError("the consistency of people needs at least two subjects")
    first, second = np.tril_indices(len(human), k=-1)
    return human[first], human[second]


def _parts(conditions: Sequence[object] | np.ndarray | None, n: int) -> list[np.ndarray]:
    """Indices of the images of each condition."""
    labels = np.zeros(n) if conditions is None else np.asarray(conditions)
    if len(labels) != n:
        raise VitreousError(f"conditions: expected {n} labels, found {len(labels)}")
    return [np.flatnonzero(labels == kind) for kind in np.unique(labels)]


def _by_condition(first: np.ndarray, second: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    return np.stack([cohens_kappas(first[:, p], second[:, p]) for p in parts], axis=1)


def _average(raw: np.ndarray) -> Score:
    """Mean over conditions, then over rows (subjects or pairs), of what is defined."""
    rows = _known_mean(raw)
    rows = rows[~np.isnan(rows)]
    if not len(rows):
        return Score(float("nan"), float("nan"), raw)
    return Score(float(rows.mean()), float(rows.std() / len(rows) ** 0.5), raw)


def _interval(
    first: np.ndarray, second: np.ndarray, parts: list[np.ndarray], resamples: int, seed: int
) -> tuple[float, float] | None:
    generator = np.random.default_rng(seed)
    drawn = [part[generator.integers(0, len(part), (resamples, len(part)))] for part in parts]
    rows = [
        _known_mean(np.stack([cohens_kappas(a[d], b[d]) for d in drawn], axis=1))
        for a, b in zip(first, second)
    ]
    return percentile_interval(_known_mean(np.stack(rows, axis=1)))


def _known_mean(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1)
