"""Statistics against scikit-learn and SciPy, and intervals against formulas."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import cohen_kappa_score

from vitreous import statistics


def test_kappas_of_many_vectors_are_sklearns():
    generator = np.random.default_rng(0)
    first, second = (generator.random((4, 60)) < p for p in (0.6, 0.7))
    expected = [cohen_kappa_score(a, b) for a, b in zip(first, second)]
    np.testing.assert_allclose(statistics.cohens_kappas(first, second), expected)
    gaps = second.astype(float)
    gaps[:, :20] = np.nan
    expected = [cohen_kappa_score(a[20:], b[20:]) for a, b in zip(first, second)]
    np.testing.assert_allclose(statistics.cohens_kappas(first, gaps), expected)
    assert np.isnan(statistics.cohens_kappa(np.ones(5), np.ones(5)))
    assert np.isnan(statistics.cohens_kappa(np.ones(5), np.full(5, np.nan)))


def test_correlations_are_scipys_and_constants_have_none():
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((2, 30, 3))
    expected = [scipy.stats.pearsonr(a, b)[0] for a, b in zip(first.T, second.T)]
    np.testing.assert_allclose(statistics.pearson(first, second), expected)
    second[:, 1] = 1e6
    assert np.isnan(statistics.pearson(first, second)).tolist() == [False, True, False]


def test_rank_correlation_is_scipys_with_ties_and_gaps():
    generator = np.random.default_rng(0)
    first, second = np.round(generator.random((2, 40)), 1)
    expected = scipy.stats.spearmanr(first, second)[0]
    np.testing.assert_allclose(statistics.spearman(first, second), expected)
    gaps = np.append(first, np.nan), np.append(second, 5.0)
    np.testing.assert_allclose(statistics.spearman(*gaps), expected)
    assert np.isnan(statistics.spearman(np.ones(5), second[:5]))
    assert np.isnan(statistics.spearman(first[:2], second[:2]))


def test_jackknife_of_a_mean_is_the_error_of_its_groups():
    values = np.random.default_rng(1).standard_normal(200)
    low, high = statistics.jackknife_interval(lambda kept: values[kept].mean(), 200, 0.5, seed=3)
    order = np.random.default_rng(3).permutation(200)
    groups = [values[order[i::20]].mean() for i in range(20)]
    error = np.std(groups, ddof=1) / 20**0.5  # equal groups: the textbook error of their mean
    half = scipy.stats.t.ppf(0.975, 19) * error
    assert (low, high) == (pytest.approx(0.5 - half, abs=1e-4), pytest.approx(0.5 + half, abs=1e-4))
    assert statistics.jackknife_interval(lambda kept: 0.0, 39, 0.5) is None
    assert statistics.jackknife_interval(lambda kept: float("nan"), 200, 0.5) is None


def test_percentiles_hold_the_middle_95_percent():
    low, high = statistics.percentile_interval([*range(1001), float("nan")])
    assert (low, high) == (25, 975)
    assert statistics.percentile_interval([float("nan")]) is None
