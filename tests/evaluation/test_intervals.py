"""Intervals against drawing images, the normal distribution and what is known of their ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from vitreous.evaluation.metrics import (
    bootstrap_counts,
    calibration,
    calibration_interval,
    class_mean_interval,
    effective_interval,
    effective_robustness,
    logit,
    mean_interval,
    percentiles,
    standard_interval,
    trapezoid_area,
)

LINE = (-0.4, 0.9)


def random_answers(n: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, and correctness that falls short of it."""
    random = np.random.default_rng(1)
    confidence = random.uniform(0.2, 1, n)
    return confidence, random.random(n) < confidence - 0.1


def error_of_bins(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, equation 3, image by image; a bin holds its upper edge."""
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.sum() * abs(correct[inside].mean() - confidence[inside].mean())
    return total / len(confidence)


@pytest.mark.parametrize("bins", [15, 4])
def test_calibration_is_the_sum_over_bins(bins: int) -> None:
    confidence, correct = random_answers()
    curve = calibration(confidence, correct, bins)
    assert curve.error == pytest.approx(error_of_bins(confidence, correct, bins), abs=1e-12)
    assert curve.edges == pytest.approx(np.arange(bins + 1) / bins)
    assert curve.n.sum() == len(confidence) and len(curve.n) == bins
    assert calibration(confidence, correct).error == pytest.approx(
        error_of_bins(confidence, correct, 15), abs=1e-12
    )


def test_the_ends_of_confidence_have_bins_and_empty_bins_have_no_figure() -> None:
    curve = calibration(np.array([0.0, 1.0, 0.25, 0.05]), np.array([True, True, False, True]), 4)
    assert curve.n.tolist() == [3, 0, 0, 1]
    assert np.isnan(curve.confidence).tolist() == [False, True, True, False]
    assert curve.accuracy[[0, 3]] == pytest.approx([2 / 3, 1])
    assert curve.confidence[[0, 3]] == pytest.approx([0.1, 1])
    assert calibration(np.zeros(0), np.zeros(0, bool)).error == 0
    assert calibration(np.array([0.3]), np.array([False])).error == pytest.approx(0.3)


def test_log_odds_are_held_off_their_poles() -> None:
    assert logit(0.75) == pytest.approx(np.log(3))
    assert logit(np.array([0.0, 1.0])) == pytest.approx([-13.815510, 13.815510], abs=1e-5)


def test_the_area_is_in_percent() -> None:
    assert trapezoid_area(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 0.0])) == 50.0


def test_percentiles_leave_out_what_is_no_number() -> None:
    values = np.append(np.arange(1001.0), np.nan)
    assert percentiles(values) == pytest.approx((25.0, 975.0))


def test_counts_are_of_images_drawn_with_replacement() -> None:
    counts = bootstrap_counts(50)
    assert counts.shape == (1000, 50) and (counts.sum(1) == 50).all()
    assert counts.std() == pytest.approx(np.sqrt(1 - 1 / 50), rel=0.02)
    assert np.array_equal(counts, bootstrap_counts(50, 1000, 0))
    assert not np.array_equal(counts, bootstrap_counts(50, 1000, 1))
    assert bootstrap_counts(1, 3).tolist() == [[1]] * 3


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3, 2, 600)
    low, high = mean_interval(values)
    half = 1.96 * values.std() / np.sqrt(600)
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=half / 8)
    assert (low, high) == mean_interval(values, draws=1000, seed=0)
    assert (low, high) != mean_interval(values, draws=1000, seed=1)


def test_the_interval_of_a_class_mean_is_that_of_drawing_images() -> None:
    right, total = np.array([300, 90, 520, 610]), np.array([400, 150, 600, 900])
    labels = np.repeat(np.arange(4), total)
    correct = np.concatenate([np.arange(t) < r for r, t in zip(right, total)])
    random, means = np.random.default_rng(5), []
    for _ in range(2000):
        chosen = random.integers(0, len(labels), len(labels))
        drawn = [correct[chosen][labels[chosen] == c] for c in range(4)]
        means.append(np.mean([d.mean() for d in drawn if len(d)]))
    expected = np.quantile(means, [0.025, 0.975])
    assert class_mean_interval(right, total) == pytest.approx(tuple(expected), abs=0.002)


@pytest.mark.parametrize("shares", [(1, 0, 0, 0), (0.9, 0.5, 0.1), (0.97,) * 20])
@pytest.mark.parametrize("images", [3, 5, 20])
def test_the_interval_of_a_class_mean_covers_it_with_few_images(
    shares: tuple[float, ...], images: int
) -> None:
    """At least 93 of 100 sets of a model with these shares right, at the ends too."""
    random, total = np.random.default_rng(2), np.full(len(shares), images)
    ends = [class_mean_interval(random.binomial(total, shares), total) for _ in range(400)]
    assert all(low < high for low, high in ends)
    assert np.mean([low <= np.mean(shares) <= high for low, high in ends]) > 0.93


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_never_varies_has_the_interval_of_wilson(share: float) -> None:
    """Drawing it again gives no spread, though a few images prove little."""
    expected = binomtest(round(12 * share), 12).proportion_ci(method="wilson")
    assert mean_interval(np.full(12, share)) == pytest.approx(tuple(expected))
    scaled = mean_interval(np.full(12, 95 * share), top=95.0)
    assert scaled == pytest.approx((95 * expected.low, 95 * expected.high))


def test_the_interval_of_one_class_is_wilsons_and_a_class_without_images_is_left_out() -> None:
    expected = binomtest(9, 12).proportion_ci(method="wilson")
    assert class_mean_interval(np.array([9, 0]), np.array([12, 0])) == pytest.approx(
        tuple(expected)
    )


def test_the_interval_of_a_calibration_error_lies_about_it() -> None:
    confidence, correct = random_answers(400)
    error = calibration(confidence, correct).error
    low, high = calibration_interval(confidence, correct)
    random, drawn = np.random.default_rng(9), []
    for _ in range(500):
        i = random.integers(0, 400, 400)
        drawn.append(error_of_bins(confidence[i], correct[i], 15))
    ends = np.quantile(drawn, [0.025, 0.975]) - np.mean(drawn) + error
    assert [low, high] == pytest.approx(ends.tolist(), abs=0.012)
    assert low < error < high
    assert (low, high) == calibration_interval(confidence, correct, draws=500, seed=0)
    assert (low, high) != calibration_interval(confidence, correct, draws=500, seed=1)


def test_a_calibration_error_is_not_below_nothing() -> None:
    confidence, correct = np.full(50, 0.5), np.arange(50) % 2 == 0
    low, high = calibration_interval(confidence, correct, draws=200)
    assert low == 0.0 < high


def test_the_interval_of_effective_robustness_is_that_of_the_delta_method() -> None:
    (k, n), (j, m) = (1520, 2000), (900, 1500)
    low, high = effective_interval((k, n), (j, m), LINE)
    x, y = k / n, j / m
    slope = (effective_robustness(x + 1e-4, y, LINE) - effective_robustness(x, y, LINE)) / 1e-4
    variance = y * (1 - y) / m + slope**2 * x * (1 - x) / n
    value, half = effective_robustness(x, y, LINE), 1.96 * variance**0.5
    assert [low, high] == pytest.approx([value - half, value + half], abs=half / 8)
    assert (low, high) == effective_interval((k, n), (j, m), LINE, draws=1000, seed=0)
    assert (low, high) != effective_interval((k, n), (j, m), LINE, draws=1000, seed=1)


@pytest.mark.parametrize("right", [False, True])
def test_calibration_of_none_or_all_right_is_as_unsure_as_the_accuracy(right: bool) -> None:
    correct, share = np.full(12, right), binomtest(12 * right, 12).proportion_ci(method="wilson")
    for sure in (0.02, 0.5, 0.97):
        low, high = calibration_interval(np.full(12, sure), correct)
        gaps = np.abs(sure - np.linspace(share.low, share.high, 100_000))
        assert [low, high] == pytest.approx([gaps.min(), gaps.max()], abs=1e-4)


def test_effective_robustness_of_nothing_right_has_an_interval_of_some_width() -> None:
    low, high = effective_interval((9, 9), (0, 9), (0.0, 1.0))
    assert low < -0.9 and high > -0.9, "nine images prove little of either set"
    low, high = effective_interval((40, 80), (0, 80), (0.0, 0.5))
    assert high - low > 0.05
    # Of three right, 3.5 of 4 are drawn: one or more of three in 99.8 of 100 draws, two in 95.7.
    level = (0.0, 0.0)  # a line that expects a half of every model
    assert effective_interval((5, 9), (3, 3), level) == pytest.approx((1 / 3 - 0.5, 0.5))
    assert effective_interval((5, 9), (0, 3), level) == pytest.approx((-0.5, 2 / 3 - 0.5))


def test_no_class_says_nothing_of_the_mean() -> None:
    for none in (np.array([]), np.array([0, 0])):
        assert class_mean_interval(none, none) == (0.0, 1.0)


def test_two_values_have_a_spread_and_one_has_none() -> None:
    assert standard_interval(np.array([1.0])) is None
    assert standard_interval(np.array([1.0, 3.0])) == pytest.approx((0.04, 3.96), abs=1e-3)
    assert mean_interval(np.array([0.2])) is None and mean_interval(np.array([1.0, 3.0]))
    assert calibration_interval(np.array([0.5]), np.array([True])) is None
    assert calibration_interval(np.array([0.5, 0.6]), np.array([True, False]))
