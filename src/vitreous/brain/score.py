"""`Score`: what every metric of this package returns, and the aggregation that Brain-Score uses."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any, Literal, TypedDict

import numpy as np

from vitreous.errors import VitreousError, nearest
from vitreous.statistics import percentile_interval

CONVENTIONS = {
    "brainscore_2026": "r² / ceiling: the share of the explainable variance, since January 2026",
    "brainscore_2022": "(r / ceiling)²: Brain-Score before 2026, and the table of the 2022 paper",
}

AT_ONCE = 1 << 22
"""Values that are resampled at a time (32 MB)."""


@dataclasses.dataclass(frozen=True)
class Score:
    """A score with what it was made of.

    Attributes:
        score: The aggregate.
        error: Its standard error over the splits: standard deviation / √splits.
        raw: What was aggregated: splits × neuroids for predictivity and consistency (NaN where
            a neuroid is constant in a split), splits for similarities; one value where there is
            no split.

    Examples:
        >>> score = aggregate(np.array([[0.2, 0.4, 0.6], [0.4, 0.6, 0.8]]))
        >>> score.score, score.raw.shape
        (0.5, (2, 3))
    """

    score: float
    error: float
    raw: np.ndarray

    def interval(
        self,
        over: Literal["splits", "neuroids"] = "neuroids",
        resamples: int = 1000,
        seed: int = 0,
    ) -> tuple[float, float]:
        """The 95 % bootstrap interval of the score.

        Args:
            over: What is resampled: the splits, or the neuroids (another sample of cells).
            resamples: Number of bootstrap samples.
            seed: Seed of the resampling.

        Raises:
            VitreousError: If `raw` has no such axis.
        """
        axis = {"splits": 0, "neuroids": 1}.get(over)
        if axis is None:
            raise VitreousError(f"unknown axis '{over}'; {nearest(over, ['splits', 'neuroids'])}")
        if self.raw.ndim <= axis or self.raw.size == 0:
            raise VitreousError(f"this score has no {over} to resample: raw is {self.raw.shape}")
        values = _resampled([self.raw], axis, resamples, seed)
        low, high = percentile_interval(values[:, 0]) or (math.nan, math.nan)
        return low, high


def ceiled_interval(
    score: Score,
    ceiling: Score,
    convention: str = "brainscore_2026",
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of a ceiled score over neuroids.

    Each sample of neuroids gives a score and a ceiling, of the same neuroids.

    Args:
        score: Of splits × neuroids.
        ceiling: Of halves × neuroids, the same neuroids.
        convention: See `ceiled`.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Returns:
        Low and high, or None for fewer than two neuroids, or where the ceiling of a sample is
        not positive: then the interval has no bound.

    Raises:
        VitreousError: If score and ceiling are of different neuroids.

    Examples:
        >>> score, ceiling = aggregate(np.full((2, 9), 0.5)), aggregate(np.full((2, 9), 0.8))
        >>> ceiled_interval(score, ceiling)
        (0.3125, 0.3125)
    """
    neuroids = (score.raw.shape[-1], ceiling.raw.shape[-1])
    if score.raw.ndim != 2 or ceiling.raw.ndim != 2 or len(set(neuroids)) != 1:
        raise VitreousError(
            f"score and ceiling do not match: {score.raw.shape} and {ceiling.raw.shape}; expected "
            "splits × neuroids of the same neuroids"
        )
    values = _resampled([score.raw, ceiling.raw], 1, resamples, seed)
    if neuroids[0] < 2 or not (values[:, 1] > 0).all():
        return None
    return percentile_interval([ceiled(r, c, convention) for r, c in values.tolist()])


def _resampled(tables: Sequence[np.ndarray], axis: int, resamples: int, seed: int) -> np.ndarray:
    """Aggregate each table over the same samples of an axis: resamples × tables."""
    generator = np.random.default_rng(seed)
    size = tables[0].shape[axis]
    drawn = np.stack([generator.integers(0, size, size) for _ in range(resamples)])
    return np.stack([_aggregates(np.asarray(table), axis, drawn) for table in tables], axis=1)


def _aggregates(table: np.ndarray, axis: int, drawn: np.ndarray) -> np.ndarray:
    """The score that `aggregate` gives of each sample (a row of indices) of an axis of a table."""
    if axis == 0:
        per_split = _medians(table) if table.ndim == 2 else table
        return _means(per_split[drawn])
    most = max(1, AT_ONCE // max(1, len(table) * drawn.shape[1]))
    parts = [drawn[start : start + most] for start in range(0, len(drawn), most)]
    return np.concatenate([_means(_medians(table[:, part]).T) for part in parts])


def _means(per_split: np.ndarray) -> np.ndarray:
    """Mean of each row without its NaN; NaN for a row in which nothing is finite."""
    known = ~np.isnan(per_split)
    total, count = np.where(known, per_split, 0).sum(axis=-1), known.sum(axis=-1)
    nothing = ~np.isfinite(per_split).any(axis=-1)
    return np.where(nothing, np.nan, total / np.maximum(count, 1))


def _medians(raw: np.ndarray) -> np.ndarray:
    """Median over the last axis without its NaN; NaN where there is nothing else."""
    ranked = np.sort(raw.astype(np.float64), axis=-1)  # NaN go last
    count = (~np.isnan(ranked)).sum(axis=-1, keepdims=True)
    pair = np.concatenate([np.maximum(count - 1, 0) // 2, count // 2], axis=-1)
    pair = np.minimum(pair, raw.shape[-1] - 1)
    return np.take_along_axis(ranked, pair, axis=-1).mean(axis=-1)


def aggregate(raw: np.ndarray) -> Score:
    """Median over neuroids, mean over splits; error = standard deviation / √splits.

    Args:
        raw: splits × neuroids, or splits. Neuroids that are NaN in a split are left out of its
            median, as in Brain-Score.

    Examples:
        >>> aggregate(np.array([[0.2, 0.4, 0.6], [0.4, np.nan, 0.8]])).score
        0.5
    """
    raw = np.asarray(raw, dtype=np.float64)
    per_split = median_over_neuroids(raw) if raw.ndim == 2 else raw
    if not np.isfinite(per_split).any():
        return Score(math.nan, math.nan, raw)
    error = float(np.nanstd(per_split)) / math.sqrt(len(per_split))
    return Score(float(np.nanmean(per_split)), error, raw)


def median_over_neuroids(raw: np.ndarray) -> np.ndarray:
    """Median of each row without its NaN; NaN for a row that has nothing else."""
    return _medians(raw)


def ceiled(raw: float, ceiling: float, convention: str = "brainscore_2026") -> float:
    """Relate a raw correlation to the noise ceiling, under a published convention.

    Args:
        raw: Correlation of prediction and response.
        ceiling: Internal consistency, a correlation.
        convention: `brainscore_2026`: r²/c; `brainscore_2022`: (r/c)². The sign of r is kept.

    Raises:
        VitreousError: For an unknown convention or a ceiling that is not positive.

    Examples:
        >>> ceiled(0.5, 0.5), ceiled(0.5, 0.5, "brainscore_2022")
        (0.5, 1.0)
    """
    if convention not in CONVENTIONS:
        raise VitreousError(
            f"unknown convention '{convention}'; {nearest(convention, CONVENTIONS)}"
        )
    if not ceiling > 0:
        raise VitreousError(f"the ceiling is {ceiling:.3g}, expected a positive consistency")
    power = 1 if convention == "brainscore_2026" else 2
    return math.copysign(raw * raw, raw) / ceiling**power


class Published(TypedDict):
    """Rows to compare with: models and reference values of the paper, by region."""

    source: str
    regions: list[str]
    models: list[dict[str, Any]]
    layers: dict[str, dict[str, str]]
    reference: dict[str, dict[str, float]]


def published() -> Published:
    """The published rows of CrossViT Adv+Rot, Brain-Score's ceilings, and AlexNet's values.

    Examples:
        >>> rows = published()
        >>> rows["regions"], len(rows["models"])
        (['V1', 'V2', 'V4', 'IT', 'behaviour'], 4)
    """
    text = resources.files("vitreous.brain").joinpath("published.json").read_text("utf-8")
    return json.loads(text)
