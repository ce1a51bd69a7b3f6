"""What the metrics pass on, leave out and refuse, against NumPy and the definitions."""

from __future__ import annotations

import inspect
import logging

import numpy as np
import pytest
import scipy.stats

import vitreous.brain as brain
from vitreous.brain import similarity
from vitreous.brain.ridge import PENALTIES
from vitreous.errors import VitreousError


def made(n: int = 60, units: int = 12, neuroids: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    features = generator.standard_normal((n, units))
    mixing = generator.standard_normal((units, neuroids))
    return features, features @ mixing + generator.standard_normal((n, neuroids))


def test_splits_are_those_that_were_given() -> None:
    features, responses = made()
    splits = brain.Splits(number=3, seed=5)
    for measure in (brain.pls_predictivity, brain.ridge_predictivity, brain.one_to_one):
        options = {"components": 3} if measure is brain.pls_predictivity else {}
        assert measure(features, responses, splits=splits, **options).raw.shape == (3, 4)
    assert tuple(brain.pls_curve(features, responses, counts=(1, 4))) == (1, 4)
    assert inspect.signature(brain.pls_curve).parameters["counts"].default == (1, 2, 5, 10, 25, 50)


def test_the_chosen_penalty_is_one_of_brainscores() -> None:
    features, responses = made()
    responses = responses + 9 * np.random.default_rng(1).standard_normal(responses.shape)
    chosen = brain.ridge_cv_predictivity(features, responses)
    given = brain.ridge_predictivity(features, responses, penalty=PENALTIES)
    fixed = brain.ridge_predictivity(features, responses)
    np.testing.assert_array_equal(chosen.raw, given.raw)
    assert not np.allclose(chosen.raw, fixed.raw)


@pytest.mark.parametrize("block", [1, 5, 4096])
def test_the_best_unit_is_found_over_all_blocks(block: int) -> None:
    features, responses = made()
    features[:, 0] = 1.0  # a constant unit is never chosen
    splits = brain.Splits(number=2)
    found = brain.one_to_one(features, responses, splits=splits, block=block).raw
    for row, (train, test) in zip(found, splits.draw(60)):
        for j in range(4):
            r = [
                scipy.stats.pearsonr(features[train, u], responses[train, j])[0]
                for u in range(1, 12)
            ]
            unit = 1 + int(np.argmax(r))
            expected = scipy.stats.pearsonr(features[test, unit], responses[test, j])[0]
            assert row[j] == pytest.approx(expected)


def test_neuroids_that_never_vary_are_counted_in_a_word(caplog) -> None:
    features, responses = made()
    with caplog.at_level(logging.WARNING):
        brain.ridge_predictivity(features, responses)
        assert not caplog.text
        brain.ridge_predictivity(features, np.insert(responses, [0, 2], 1.0, axis=1))
    assert "2 neuroids are constant" in caplog.text


def test_one_neuroid_is_no_pattern() -> None:
    matrix = brain.rdm(np.arange(3.0)[:, None])
    assert np.isnan(matrix[~np.eye(3, dtype=bool)]).all() and (np.diag(matrix) == 0).all()


def test_matrices_that_cannot_be_compared_are_refused() -> None:
    square = brain.rdm(made()[0])
    for first, second in (
        (square, square[:5, :5]),
        (square[0], square[0]),
        (square[:5], square[:5]),
    ):
        with pytest.raises(VitreousError, match="do not match"):
            brain.compare_rdms(first, second)
    with pytest.raises(VitreousError, match="only 1 pairs"):
        brain.compare_rdms(square[:2, :2], square[:2, :2])
    assert brain.compare_rdms(square[:3, :3], square[:3, :3]) == pytest.approx(1)
    holes = square.copy()
    holes[3, :] = holes[:, 3] = np.nan
    kept = np.delete(np.arange(60), 3)
    other = brain.rdm(made()[1])
    expected = brain.compare_rdms(square[np.ix_(kept, kept)], other[np.ix_(kept, kept)])
    assert brain.compare_rdms(holes, other) == pytest.approx(expected)


@pytest.mark.parametrize("unbiased", [True, False])
def test_alignment_is_its_definition_on_whole_matrices(unbiased: bool) -> None:
    features, responses = made()

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n = len(a)
        if not unbiased:
            h = np.eye(n) - 1 / n
            return float(np.trace(a @ h @ b @ h))
        a, b, one = a - np.diag(np.diag(a)), b - np.diag(np.diag(b)), np.ones(n)
        middle = (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
        return float(np.trace(a @ b) + middle - 2 / (n - 2) * (one @ a @ b @ one))

    def alignment(images: np.ndarray) -> float:
        x, y = (v[images] - v[images].mean(axis=0) for v in (features, responses))
        first, second = x @ x.T, y @ y.T
        return hsic(first, second) / np.sqrt(hsic(first, first) * hsic(second, second))

    found = brain.cka(features, responses, unbiased=unbiased).score
    assert found == pytest.approx(alignment(np.arange(60)), abs=1e-9)
    if unbiased:
        assert brain.cka(features, responses).score == found
        assert similarity.cka_measure(features, responses)(np.arange(60)) == found
    else:  # each subset is centred anew
        splits = brain.Splits(number=2, test_size=0.5)
        held = brain.cka(features, responses, unbiased=False, splits=splits).raw
        expected = [alignment(test) for _, test in splits.draw(60)]
        np.testing.assert_allclose(held, expected)


def test_alignment_needs_four_images_and_something_that_varies() -> None:
    features, responses = made()
    with pytest.raises(VitreousError, match="at least 4 images, found 3"):
        brain.cka(features[:3], responses[:3])
    assert np.isfinite(brain.cka(features[:4], responses[:4]).score)
    assert brain.cka(np.ones((60, 3)), responses, unbiased=False).score == 0.0


def test_the_first_unit_and_units_of_any_scale_are_found() -> None:
    features, responses = made()
    features[:, 0] = responses[:, 1]
    raw = brain.one_to_one(features, responses).raw
    np.testing.assert_allclose(raw[:, 1], 1.0)
    np.testing.assert_allclose(brain.one_to_one(1e-4 * features, responses).raw, raw)


def test_pls_does_not_depend_on_the_scale_of_responses() -> None:
    """The power iteration is of unit vectors: it runs as long where YᵀKY has small squares."""
    features, responses = made()
    splits = brain.Splits(number=2)
    raw = brain.pls_predictivity(features, responses, components=3, splits=splits).raw
    small = brain.pls_predictivity(features, 1e-6 * responses, components=3, splits=splits).raw
    np.testing.assert_allclose(small, raw, atol=1e-9)
