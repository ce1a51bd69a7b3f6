"""What regressions and ceilings are made from: the Gram matrix, penalties, halves of trials."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import threadpoolctl

import vitreous.brain as brain
from vitreous.brain import behaviour
from vitreous.brain.gram import Kernel, blas_threads
from vitreous.brain.ridge import PENALTIES, ridge_predictions
from vitreous.errors import VitreousError


def random_data(n: int, units: int, neuroids: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    return generator.standard_normal((n, units)), generator.standard_normal((n, neuroids))


@pytest.mark.parametrize("units", [4, 200], ids=["factored", "gram"])
def test_one_image_that_is_not_finite_is_named(units: int) -> None:
    features, _ = random_data(20, units)
    features[7, 1] = np.inf
    uncentred = "1 of 20 images, first number 7"
    with pytest.raises(VitreousError, match=uncentred):
        brain.gram(features, centre=False)
    with np.errstate(invalid="ignore"), pytest.raises(VitreousError, match="NaN or infinities"):
        Kernel.of(features)


def test_threads_of_the_blas_are_limited_inside_alone() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))

    def threads() -> set[int]:
        found = [one for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]
        # OpenCV may bring a BLAS that is built for one thread.
        return {one["num_threads"] for one in found if one.get("threading_layer") != "disabled"}

    with blas_threads(2):
        assert threads() == {2}
        with blas_threads(1):
            assert threads() == {1}
        with blas_threads(None):
            assert threads() == {2}
        assert threads() == {2}


def test_penalties_are_brainscores() -> None:
    """99: a few small ones, then steps of half the lower end of each decade."""
    small = [0.01, 0.1, 0.5, 1, 10, 32.5, 55, 77.5]
    decades = [10**d * k / 2 for d in range(2, 7) for k in range(2, 20)]
    assert len(PENALTIES) == 99
    np.testing.assert_allclose(PENALTIES, [*small, *decades, 1e7])


@pytest.mark.parametrize("penalty", [[], -1.0, [1.0, -1.0], [0.0, 1.0]], ids=itertools.count())
def test_penalties_that_are_none_are_refused(penalty: float | list[float]) -> None:
    features, responses = random_data(20, 5)
    splits = brain.Splits(number=1).draw(20)
    with pytest.raises(VitreousError, match="positive numbers, or 0 alone"):
        ridge_predictions(brain.gram(features), responses, splits, penalty)


@pytest.mark.parametrize("units", [5, 60])
def test_no_penalty_is_least_squares_of_the_smallest_norm(units: int) -> None:
    features, responses = random_data(30, units)
    splits = brain.Splits(number=2).draw(30)
    found, used = ridge_predictions(brain.gram(features), responses, splits, 0)
    assert used == [0, 0]
    for (train, test), predictions in zip(splits, found, strict=True):
        middle, mean = features[train].mean(0), responses[train].mean(0)
        weights = np.linalg.lstsq(features[train] - middle, responses[train] - mean)[0]
        np.testing.assert_allclose(predictions, mean + (features[test] - middle) @ weights)


def test_an_image_without_a_trial_in_a_half_is_left_out_of_that_neuroid() -> None:
    generator = np.random.default_rng(1)
    signal = generator.standard_normal((12, 4))
    trials = signal + 0.5 * generator.standard_normal((2, 12, 4))
    trials[0, 4, 1] = trials[1, 7, 1] = np.nan
    trials[0, 1:, 3] = np.nan  # one image is no correlation
    kept = [np.arange(12), np.delete(np.arange(12), [4, 7]), np.arange(12)]
    r = np.array([scipy.stats.pearsonr(*trials[:, k, j])[0] for j, k in enumerate(kept)])
    found = brain.internal_consistency(trials)
    assert found.raw.shape == (10, 4) and np.isnan(found.raw[:, 3]).all()
    np.testing.assert_allclose(found.raw[:, :3], np.tile(2 * r / (1 + r), (10, 1)))


def test_trials_that_are_missing_or_infinite_are_told() -> None:
    trials = np.random.default_rng(0).standard_normal((3, 6, 2))
    trials[:2, 4, 1] = np.nan
    assert brain.average_trials(trials)[4, 1] == trials[2, 4, 1], "one trial is enough"
    trials[2, 4, 1] = np.nan
    with pytest.raises(VitreousError, match="1 images have no trial"):
        brain.average_trials(trials)
    trials[0, 0, 0] = np.inf
    with pytest.raises(VitreousError, match="1 infinite values"):
        brain.internal_consistency(trials)


def test_cells_that_either_lacks_are_left_out_of_a_correlation() -> None:
    first, second = np.random.default_rng(0).standard_normal((2, 5, 4))
    expected = scipy.stats.pearsonr(first[:, 2:].ravel(), second[:, 2:].ravel())[0]
    first[:, 0] = second[:, 1] = np.nan
    assert behaviour._correlate(first, second) == pytest.approx(expected)
    with pytest.raises(VitreousError, match="fewer than three"):
        behaviour._correlate(first[:1], second[:1])


def test_an_object_that_is_no_choice_is_named() -> None:
    with pytest.raises(VitreousError, match="'cat' of an image is not among"):
        behaviour._true_column(np.array(["dog", "cat"]), np.array(["bear", "dog"]))
