"""Metrics of relevance maps against Quantus's numbers, and what follows from their definitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import Tensor

from golden import quantus_metrics as golden
from vitreous.attribution.scores import foreground_share
from vitreous.evaluation.explanation_metrics.complexity import entropy, gini
from vitreous.evaluation.explanation_metrics.faithfulness import (
    curve_mean,
    impute,
    infidelity,
    pixel_flipping,
    remove_and_debias,
)
from vitreous.evaluation.explanation_metrics.localization import rank_accuracy, roc_area
from vitreous.evaluation.explanation_metrics.ranks import (
    average_ranks,
    descending_orders,
    most_relevant,
)
from vitreous.evaluation.explanation_metrics.stability import (
    max_sensitivity,
    randomized,
    rank_correlation,
)

FILE = Path(__file__).parents[1] / "golden" / "quantus_metrics.npz"
GIVEN = golden.inputs()
IMAGES, MAPS = torch.from_numpy(GIVEN["images"]), torch.from_numpy(GIVEN["maps"])
LABELS = torch.from_numpy(GIVEN["labels"])
SIDE, COUNT = golden.SIDE, golden.COUNT


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(FILE) as arrays:
        return dict(arrays)


def score(images: Tensor) -> Tensor:
    with torch.no_grad():
        return golden.network()(images)[torch.arange(len(images)), LABELS]


def explain(images: Tensor) -> Tensor:
    return torch.from_numpy(golden.gradients(golden.network(), images.numpy(), GIVEN["labels"]))


def close(values: np.ndarray | Tensor, wanted: np.ndarray) -> None:
    assert np.ptp(wanted) > 0
    np.testing.assert_allclose(np.asarray(values), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "metric"), [("rank_accuracy", rank_accuracy), ("roc_area", roc_area)]
)
def test_localization_is_quantuss(expected, name, metric) -> None:
    close(metric(GIVEN["maps"][:, 0], GIVEN["masks"][:, 0]), expected[name])


def test_mass_on_the_foreground_is_quantuss(expected) -> None:
    close(foreground_share(MAPS, torch.from_numpy(GIVEN["masks"])), expected["mass"])


@pytest.mark.parametrize(("name", "metric"), [("gini", gini), ("entropy", entropy)])
def test_complexity_is_quantuss(expected, name, metric) -> None:
    close(metric(GIVEN["maps"][:, 0]), expected[name])


def test_pixel_flipping_is_quantuss(expected) -> None:
    close(pixel_flipping(score, IMAGES, MAPS, golden.STEPS), expected["pixel_flipping"])


def growing_patches() -> Iterator[Tensor]:
    """Quantus's perturbations: one patch after another goes, and stays away."""
    changed = IMAGES.clone()
    for top in range(0, SIDE, golden.PATCH):
        for left in range(0, SIDE, golden.PATCH):
            changed[..., top : top + golden.PATCH, left : left + golden.PATCH] = 0
            yield changed.clone()


def test_infidelity_is_quantuss(expected) -> None:
    close(infidelity(score, IMAGES, MAPS, growing_patches()), expected["infidelity"])


def test_remove_and_debias_is_quantuss(expected) -> None:
    curve = []
    for percentage in golden.PERCENTAGES:
        changed = remove_and_debias(IMAGES, MAPS, percentage / 100, range(COUNT), noise=0.0)
        right = golden.network()(changed).argmax(1) == LABELS
        curve.append(right.double().mean().item())
    close(np.array(curve), expected["road"])


def test_max_sensitivity_is_quantuss(expected) -> None:
    random = np.random.RandomState(0)
    shape, radius = (golden.DRAWS, *IMAGES.shape), golden.RADIUS
    draws = IMAGES + torch.from_numpy(random.uniform(-radius, radius, shape))
    close(max_sensitivity(explain, explain(IMAGES), draws), expected["max_sensitivity"])


def test_the_cascade_of_random_parameters_is_quantuss(expected) -> None:
    net, before = golden.network(), golden.network().state_dict()
    own = golden.gradients(net, GIVEN["images"], GIVEN["labels"])
    correlations = []
    with randomized(net, 2) as cascade:
        for _ in cascade:
            maps = golden.gradients(net, GIVEN["images"], GIVEN["labels"])
            correlations.append(rank_correlation(own, maps))
    close(np.stack(correlations), expected["cascade"])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_weights_are_back_after_an_error_and_random_draws_go_on_as_before() -> None:
    net, before = golden.network(), golden.network().state_dict()
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(RuntimeError), randomized(net, 1) as cascade:
        next(cascade)
        assert not torch.equal(net[1].weight, before["1.weight"])
        raise RuntimeError
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_map_of_another_class_correlates_as_quantus_has_it(expected) -> None:
    own = golden.gradients(golden.network(), GIVEN["images"], GIVEN["labels"])
    np.random.seed(42)
    drawn = np.random.randint(0, golden.CLASSES - 1, COUNT)
    others = [[c for c in range(golden.CLASSES) if c != label] for label in GIVEN["labels"]]
    classes = np.array([other[place] for other, place in zip(others, drawn)])
    maps = golden.gradients(golden.network(), GIVEN["images"], classes)
    close(rank_correlation(own, maps), expected["random_logit"])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ranks_and_orders_are_scipys_and_of_stable_sorting(kind, ties) -> None:
    values = np.random.default_rng(3).random(500).astype(kind)
    if ties:
        values = np.round(values, 1)
    assert (len(np.unique(values)) < 20) == ties
    order = np.argsort(-values, kind="stable")
    np.testing.assert_array_equal(average_ranks(values), rankdata(values))
    signed = np.stack([values, np.round(values - 0.5, 1), -values, np.zeros(500, kind)])
    signed[3, ::2] *= -1  # two zeros, which are equal
    expected = np.argsort(-signed, axis=1, kind="stable")
    np.testing.assert_array_equal(descending_orders(signed), expected)
    for count in (0, 1, 120, 500):
        expected = np.isin(np.arange(500), order[:count])
        np.testing.assert_array_equal(most_relevant(values, count), expected)


def test_a_filled_in_pixel_is_the_weighted_mean_of_its_neighbours() -> None:
    image = np.random.default_rng(1).random((3, 5, 6))
    filled = impute(image, np.array([2 * 6 + 3, 0]))
    weights = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    np.testing.assert_allclose(filled[:, 2, 3], (image[:, 1:4, 2:5] * weights).sum((1, 2)))
    corner = (2 * image[:, 0, 1] + 2 * image[:, 1, 0] + image[:, 1, 1]) / 5
    np.testing.assert_allclose(filled[:, 0, 0], corner)
    # a plane is its own mean, and a hole in it is filled without a seam
    plane = np.add.outer(np.arange(9.0), 2 * np.arange(9.0))[None]
    hole = (np.arange(3, 6)[:, None] * 9 + np.arange(3, 6)).ravel()
    np.testing.assert_allclose(impute(plane, hole), plane)


def test_all_filled_in_pixels_solve_one_dense_system() -> None:
    """In whatever order they are given, with the noise of each, and none at all."""
    random = np.random.default_rng(2)
    image, height, width = random.random((2, 7, 9)), 7, 9
    gone = random.permutation(height * width)[:40]
    noise = random.normal(size=(40, 2))
    matrix, right = np.eye(height * width), image.reshape(2, -1).T.copy()
    for place in gone:
        y, x = divmod(place, width)
        near = {
            (y + down) * width + x + across: 2 - abs(down * across)
            for down in (-1, 0, 1)
            for across in (-1, 0, 1)
            if (down or across) and 0 <= y + down < height and 0 <= x + across < width
        }
        right[place] = 0
        for other, weight in near.items():
            matrix[place, other] = -weight / sum(near.values())
    expected = np.linalg.solve(matrix, right)
    expected[gone] += noise
    np.testing.assert_allclose(impute(image, gone, noise).reshape(2, -1).T, expected, atol=1e-10)
    np.testing.assert_array_equal(impute(image, gone[:0]), image)


def test_the_best_multiple_of_a_map_has_the_least_infidelity() -> None:
    """A linear model's weights, in any scale, say exactly what goes with each pixel."""
    weights = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()

    def linear(images: Tensor) -> Tensor:
        return (images * weights).sum((1, 2, 3))

    maps = 7 * weights.expand(COUNT, -1, -1, -1)
    perturbed = list(growing_patches())
    assert infidelity(linear, IMAGES, maps, perturbed, scaled=True).max() < 1e-12
    assert infidelity(linear, IMAGES, maps / 7, perturbed).max() < 1e-12
    wrong = infidelity(linear, IMAGES, MAPS, perturbed, scaled=True)
    assert (wrong > 0).all() and (wrong <= 1).all()


def test_maps_without_contrast_have_defined_values() -> None:
    flat, mask = np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool)
    assert gini(flat)[0] == pytest.approx(0) and entropy(flat)[0] == pytest.approx(np.log(16))
    assert np.isnan(rank_accuracy(flat, mask))[0] and np.isnan(roc_area(flat, mask))[0]
    assert np.isnan(rank_correlation(flat, flat))[0]
    mask[0, 0] = True
    assert roc_area(flat, mask)[0] == 0.5
    assert curve_mean(torch.tensor([[1.0, 0.0, 0.0]]))[0] == 0.25
