"""Measures of a classifier's answers: pure functions of arrays."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from vitreous.results import wilson_interval
from vitreous.statistics import NORMAL_QUANTILE, percentile_interval


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy, in bins of equal width.

    Attributes:
        edges: (bins + 1,) of the confidence.
        n: (bins,) images.
        confidence: (bins,) mean; NaN where a bin is empty.
        accuracy: (bins,); NaN where a bin is empty.
    """

    edges: np.ndarray
    n: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017, eq. 3)."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(self.n * gaps) / max(self.n.sum(), 1))


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> Calibration:
    """Compare confidence (N,) in [0, 1] with correctness (N,) bool."""
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    n = np.bincount(places, minlength=bins)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.bincount(places, weights=values.astype(np.float64), minlength=bins)
        return np.divide(total, n, out=np.full(bins, np.nan), where=n > 0)

    return Calibration(edges, n, mean(confidence), mean(correct))


def logit(p: np.ndarray | float) -> np.ndarray:
    """Logarithm of the odds; 0 and 1 are held off by 1e-6."""
    clipped = np.clip(np.asarray(p, dtype=np.float64), 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))


def fit_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Fit logit(y) = intercept + slope · logit(x) by least squares (Taori et al. 2020)."""
    slope, intercept = np.polyfit(logit(x), logit(y), 1)
    return float(intercept), float(slope)


def effective_robustness(x: float, y: float, line: tuple[float, float]) -> float:
    """Compute accuracy `y` on a shift beyond what the line expects of accuracy `x`."""
    expected = 1 / (1 + np.exp(-(line[0] + line[1] * logit(x))))
    return float(y - expected)


def trapezoid_area(x: np.ndarray, y: np.ndarray) -> float:
    """Area under a curve, in percent (`trapezoid(y, x) · 100`)."""
    return float(np.trapezoid(y, x) * 100)


DRAWS = 1000


def bootstrap_counts(n: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(draws, N): how often each of N images is in each bootstrap sample."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / max(n, 1)), size=draws)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of bootstrap values (draws,), those that are not numbers apart."""
    return percentile_interval(values) or (math.nan, math.nan)


def standard_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Bound the mean of values (N,) that are not below 0 by its standard error; None for one."""
    if len(values) < 2:
        return None
    mean = float(values.mean())
    error = math.sqrt(float(values.var(ddof=1)) / len(values)) * NORMAL_QUANTILE
    return max(0.0, mean - error), mean + error


def mean_interval(
    values: np.ndarray, draws: int = DRAWS, seed: int = 0, top: float = 1.0
) -> tuple[float, float] | None:
    """Bound the mean of values (N,), one for each image: a percentile bootstrap over images.

    Values that are all 0, or all the largest that there can be (`top`), have Wilson's interval, on
    their scale: drawn again they would have no spread. One image alone has no spread either, and no
    interval.
    """
    random, n = np.random.default_rng(seed), len(values)
    if n and values.min() == values.max() and values[0] in (0, top):
        low, high = wilson_interval(n * float(values[0] > 0), n)
        return low * top, high * top
    if n < 2:
        return None
    means = [values[random.integers(0, n, n)].mean() for _ in range(draws)]
    return percentiles(np.array(means))


def class_mean_interval(right: np.ndarray, total: np.ndarray) -> tuple[float, float]:
    """Bound the mean over classes of their accuracies, 95 %.

    The classes' Wilson intervals are combined as independent errors, each with its longer side, so
    that there is a width also where a class has all right or none.

    Args:
        right: (K,) right answers of each class.
        total: (K,) images of each class; classes without any are left out.
    """
    pairs = [(int(r), int(n)) for r, n in zip(right, total) if n > 0]
    if len(pairs) < 2:
        return wilson_interval(*pairs[0]) if pairs else wilson_interval(0, 0)
    shares = np.array([r / n for r, n in pairs])
    bounds = np.array([wilson_interval(r, n) for r, n in pairs])
    reach = np.abs(bounds - shares[:, None]).max(axis=1)
    half = float(np.sqrt((reach**2).sum())) / len(pairs)
    mean = float(shares.mean())
    return max(0.0, mean - half), min(1.0, mean + half)


def calibration_interval(
    confidence: np.ndarray, correct: np.ndarray, draws: int = 500, seed: int = 0
) -> tuple[float, float] | None:
    """Bound the expected calibration error by a bootstrap over images.

    The error of a sample is larger on average than that of the whole, since it is a mean of
    absolute values; the interval is moved back by that difference, and ends at 0. One image
    alone has no spread, and no interval; where all are right or all wrong, which would be drawn
    again as it is, the accuracy may be anywhere in Wilson's interval.
    """
    random, n = np.random.default_rng(seed), len(confidence)
    if n < 2:
        return None
    if correct.all() or not correct.any():
        ends, sure = wilson_interval(int(correct.sum()), n), float(confidence.mean())
        gaps = sorted(abs(sure - end) for end in ends)
        return 0.0 if ends[0] <= sure <= ends[1] else gaps[0], gaps[1]
    chosen = (random.integers(0, n, n) for _ in range(draws))
    errors = np.array([calibration(confidence[i], correct[i]).error for i in chosen])
    moved = errors - errors.mean() + calibration(confidence, correct).error
    low, high = percentiles(moved)
    return max(0.0, low), high


def effective_interval(
    home: tuple[int, int],
    shift: tuple[int, int],
    line: tuple[float, float],
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Bound effective robustness by a bootstrap over the images of both sets.

    Args:
        home: Right answers and images at home.
        shift: Right answers and images on the shift.
        line: Intercept and slope, taken as known.
        draws: Bootstrap samples.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    # All right or all wrong would be drawn with no spread: half an image is added to each side.
    shares = [(k + 0.5) / (n + 1) if k in (0, n) else k / n for k, n in (home, shift)]
    x, y = (random.binomial(n, p, draws) / n for p, (_, n) in zip(shares, (home, shift)))
    return percentiles(np.array([effective_robustness(a, b, line) for a, b in zip(x, y)]))
