"""Measures against published numbers, hand-computed cases and brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, cohen_kappa_score
from torch import nn

from vitreous.data.class_maps import class_map
from vitreous.evaluation import segmentation_scores
from vitreous.evaluation.effective import (
    effective_records,
    published_accuracies,
    published_line,
)
from vitreous.evaluation.evaluators.corruption import (
    Corruption,
    corruption_records,
    corruption_table,
)
from vitreous.evaluation.evaluators.rotation import Rotation
from vitreous.evaluation.metrics import (
    calibration,
    effective_robustness,
    fit_line,
)
from vitreous.evaluation.pixel_removal import removal_area, removal_hits
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.scoring import NOT_FINITE, UNRANKED, Scorer, rank, row_type
from vitreous.evaluation.segmentation import average_precision, foreground_share, pointing_hits
from vitreous.evaluation.test_sets import Convention, TestSet
from vitreous.evaluation.test_sets.base import single
from vitreous.evaluation.test_sets.imagenet import home_convention
from vitreous.models import Classifier, Preprocessing
from vitreous.models.class_words import imagenet_index
from vitreous.statistics import cohens_kappa, kappa_interval, paired_interval


class Nothing:
    """Pictures of a set whose pictures are never opened."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return str(index)

    def open(self, index: int) -> None:
        raise AssertionError("not opened")


def test_segmentation_scores_are_those_of_the_published_code() -> None:
    golden = np.load(Path(__file__).parents[1] / "golden" / "segmentation_metrics.npz")
    scores = segmentation_scores(
        torch.from_numpy(golden["relevance"]), torch.from_numpy(golden["label"])
    )
    assert set(scores) == {"pixel_accuracy", "mean_iou", "mean_ap"}
    for name, value in scores.items():
        assert value == pytest.approx(float(golden[name]), abs=1e-6)


def test_segmentation_of_a_hand_computed_map() -> None:
    relevance = torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]]])  # mean 0.4: foreground is the last
    labels = torch.tensor([[[0, 0], [1, 1]]])
    scores = segmentation_scores(relevance, labels)
    assert scores["pixel_accuracy"] == pytest.approx(3 / 4)
    assert scores["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_segmentation_of_a_constant_map_is_defined_and_ignored_pixels_do_not_count() -> None:
    scores = segmentation_scores(torch.ones(1, 1, 4, 4), torch.zeros(1, 4, 4))
    assert scores == {"pixel_accuracy": 1.0, "mean_iou": 0.5, "mean_ap": 1.0}
    relevance = torch.rand(1, 1, 2, 4)
    labels = torch.tensor([[[0, 1, 0, 1], [0, 1, 1, 0]]])
    ignored = labels.clone()
    ignored[0, 1] = -1
    part = segmentation_scores(relevance, ignored)
    foreground = relevance[0, 0, 0] > relevance.mean()
    assert part["pixel_accuracy"] == pytest.approx(
        (foreground == labels[0, 0].bool()).double().mean().item()
    )


def test_average_precision_is_scikit_learns_with_ties() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        truth, scores = random.random(200) < 0.3, random.integers(0, 9, 200) / 8
        expected = average_precision_score(truth, scores)
        assert average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_pointing_and_foreground_share_of_hand_computed_maps() -> None:
    relevance = torch.tensor([[[[0.0, 3.0], [1.0, 0.0]]], [[[2.0, 2.0], [0.0, 0.0]]]])
    masks = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]], [[[0.0, 1.0], [1.0, 0.0]]]])
    assert pointing_hits(relevance, masks, 0).tolist() == [1.0, 0.0]  # the first maximum counts
    assert foreground_share(relevance, masks).tolist() == [0.75, 0.5]


class Brightness(nn.Module):
    """Class 1 where more than `least` of the picture's sum is left, else class 0."""

    num_classes = 2

    def __init__(self, least: float):
        super().__init__()
        self.least = least

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        left = images[:, 0].sum((1, 2)) - self.least
        return torch.stack([-left, left], 1)


def test_removal_curves_and_area_of_a_hand_computed_case() -> None:
    """Ten pixels worth 1…10 (sum 55), relevance = value; right while more than 27 is left.

    Highest first leaves 45, 36, 28, 21, …: right up to 30 %. Lowest first leaves 54, 52, 49, 45,
    40, 34, 27, …: right up to 60 %.
    """
    values = torch.arange(1.0, 11.0)
    images = values.view(1, 1, 2, 5).expand(1, 3, 2, 5) / 10
    classifier = Classifier(Brightness(2.75), (0.0,) * 3, (1.0,) * 3)
    relevance = values.view(1, 1, 2, 5)
    hits = removal_hits(classifier, images, relevance, torch.tensor([1]))[0].double().numpy()
    assert hits[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert hits[1].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert removal_area(hits[0]) == pytest.approx(35.0)  # 0.3 full and half a step of 0.1
    assert removal_area(hits[1]) == pytest.approx(65.0)


def test_ranks_are_places_in_the_sorted_logits() -> None:
    scores = torch.randn(40, 12).round(decimals=0)  # with ties
    accepted = torch.rand(40, 12) < 0.2
    found = rank(scores, accepted)
    for row, right, value in zip(scores.tolist(), accepted.tolist(), found.tolist()):
        order = sorted(range(12), key=lambda i: (-row[i], i))
        places = [place for place, i in enumerate(order) if right[i]]
        assert value == (places[0] if places else UNRANKED)


def test_logits_that_are_not_finite_count_as_wrong() -> None:
    test_set = TestSet("x", Nothing(2), np.array([0, 0]), single(3))
    logits = torch.tensor([[float("nan"), 0.0, 0.0], [1.0, 0.0, 0.0]])
    rows = Scorer(test_set, 3, torch.device("cpu")).rows(torch.arange(2), logits)
    assert rows["status"].tolist() == [NOT_FINITE, 0]
    assert (rows["rank0"] == 0).tolist() == [False, True]


def test_nll_and_confidence_under_a_subset_are_those_of_the_subset() -> None:
    convention = (Convention("two", (0, 2)),)
    test_set = TestSet("x", Nothing(1), np.array([0]), ((2,),), convention)
    rows = Scorer(test_set, 3, torch.device("cpu")).rows(
        torch.arange(1), torch.tensor([[1.0, 9.0, 2.0]])
    )
    chance = np.exp(2) / (np.exp(1) + np.exp(2))
    assert rows["confidence"][0] == pytest.approx(chance, rel=1e-6)
    assert rows["nll"][0] == pytest.approx(-np.log(chance), rel=1e-6)


def test_calibration_error_of_a_hand_computed_case() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    curve = calibration(confidence, correct, bins=10)
    assert curve.n[[5, 9]].tolist() == [2, 4]
    assert curve.error == pytest.approx((4 * abs(0.75 - 0.95) + 2 * abs(0.5 - 0.55)) / 6)


def answers(test_set: TestSet, right: np.ndarray) -> Predictions:
    """Answers of a model that is right where `right` (N,) says so, under every convention."""
    rows = np.zeros(len(right), row_type(test_set.conventions))
    rows["index"] = np.arange(len(right))
    for i in range(len(test_set.conventions)):
        rows[f"rank{i}"] = np.where(right, 0, 9)
    return Predictions(test_set, rows, {}, Preprocessing())


def test_imagenet_c_is_summed_up_by_hand() -> None:
    """Corruption i of the paper has error 1/2 + s/20 at severity s, but fog is always right."""
    facts = class_map("imagenet_c")
    paper = [c for g in ("noise", "blur", "weather", "digital") for c in facts["groups"][g]]
    parts = []
    for corruption in [*paper, "saturate"]:
        for severity in (1, 2, 3, 4, 5):
            wrong = 0 if corruption == "fog" else 10 + severity
            part = TestSet(
                "imagenet-c",
                Nothing(20),
                np.zeros(20, np.int32),
                single(2),
                settings={"corruption": corruption, "severity": severity},
            )
            parts.append(answers(part, np.arange(20) >= wrong))
    records = {r.metric: r for r in corruption_records(parts)}
    errors = {c: 0.0 if c == "fog" else 0.65 for c in paper}
    assert records["mean_error"].value == pytest.approx(14 * 0.65 / 15)
    assert records["mce"].value == pytest.approx(
        sum(errors[c] / facts["alexnet_error"][c] for c in paper) / 15
    )
    assert records["mce"].n == 15 * 5 * 20  # the extra corruption is not in it
    table = corruption_table(parts)
    assert table["top1"][table["corruption"].index("snow")] == pytest.approx(
        [0.45, 0.4, 0.35, 0.3, 0.25]
    )
    missing = {r.metric for r in corruption_records(parts[5:])}
    assert "mce" not in missing and "mean_error" in missing


def test_effective_robustness_takes_home_accuracy_on_the_classes_of_the_shift() -> None:
    """A model with a testbed model's two accuracies has that model's effective robustness."""
    facts, n = published_accuracies(), 20_000
    row = dict(zip(facts["columns"], facts["models"]["resnet50"]))
    ours = imagenet_index()
    among = [ours[w] for w in class_map("imagenet_a")["wnids"]]
    conventions = (home_convention(""), home_convention("imagenet-a"))
    targets = np.repeat([among[0], 0], n)  # class 0 is not one of ImageNet-A
    home = TestSet("imagenet-val", Nothing(2 * n), targets, single(1000), conventions)
    x, y = row["val-on-imagenet-a-classes"], row["imagenet-a"]
    right = np.concatenate([np.arange(n) < round(x * n), np.zeros(n, bool)])
    shift = TestSet("imagenet-a", Nothing(n), np.full(n, among[0]), single(1000))
    records, entries = effective_records(
        answers(home, right), [answers(shift, np.arange(n) < round(y * n))]
    )
    _, line = published_line("imagenet-a")
    assert records[0].value == pytest.approx(effective_robustness(x, y, line), abs=2e-4)
    assert entries["imagenet-a"]["model"] == pytest.approx([x, y], abs=1e-4)


def test_paired_intervals_agree_with_drawing_pictures() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(300) < 0.6, random.random(300) < 0.7
    draws = random.integers(0, 300, (4000, 300))
    differences = second[draws].mean(1) - first[draws].mean(1)
    interval = paired_interval(int((second & ~first).sum()), int((first & ~second).sum()), 300)
    assert interval == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.012)
    kappas = [cohen_kappa_score(first[d], second[d]) for d in draws[:1000]]
    bounds = kappa_interval(first, second)
    assert bounds == pytest.approx(np.quantile(kappas, [0.025, 0.975]), abs=0.02)


def test_models_that_never_differ_have_an_interval_of_some_width() -> None:
    low, high = paired_interval(0, 0, 10)
    assert low == -high and 0.1 < high < 0.4


def test_agreement_with_a_model_that_is_always_wrong_has_an_interval_of_some_width() -> None:
    other = np.arange(8) < 3
    for constant in (np.zeros(8, bool), np.ones(8, bool)):
        for pair in ((constant, other), (other, constant)):
            bounds = kappa_interval(*pair)
            assert bounds is not None and bounds[0] < -0.05 and bounds[1] > 0.05


def test_error_consistency_is_cohens_kappa() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(500) < 0.8, random.random(500) < 0.6
    assert cohens_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_effective_robustness_is_the_height_above_the_line_in_logits() -> None:
    x = np.array([0.6, 0.7, 0.8, 0.9])
    y = 1 / (1 + np.exp(-(-0.5 + 0.9 * np.log(x / (1 - x)))))
    line = fit_line(x, y)
    assert line == pytest.approx((-0.5, 0.9))
    assert effective_robustness(0.7, float(y[1]) + 0.05, line) == pytest.approx(0.05)


@pytest.mark.parametrize("shift", list(published_accuracies()["shifts"]))
def test_published_models_lie_about_their_line(shift: str) -> None:
    """Models of standard training have no effective robustness; on V2 and Sketch none departs."""
    points, line = published_line(shift)
    above = [effective_robustness(x, y, line) for x, y in points]
    assert len(points) > 60
    assert abs(np.mean(above)) < 0.02
    if "v2" in shift:
        assert max(map(abs, above)) < 0.02  # the tight line of Taori et al. 2020, figure 1


def test_published_top1_of_resnet50_is_carried() -> None:
    facts = published_accuracies()
    row = dict(zip(facts["columns"], facts["models"]["resnet50"]))
    assert row["val"] == pytest.approx(0.7613, abs=1e-4)  # torchvision's published accuracy


def test_quarter_turns_are_exact_and_other_angles_agree_with_them() -> None:
    images, indices = torch.rand(2, 3, 8, 8), torch.arange(2)
    once = Rotation(90)(images, indices)
    assert torch.equal(once, torch.rot90(images, 1, (-2, -1)))
    assert torch.equal(Rotation(270)(once, indices), images)
    assert torch.equal(Rotation(-90)(images, indices), Rotation(270)(images, indices))
    smooth = torch.linspace(0, 1, 33).view(1, 1, 1, 33).expand(1, 3, 33, 33).contiguous()
    near, exact = Rotation(89.999)(smooth, indices), Rotation(90)(smooth, indices)
    assert (near - exact)[..., 4:-4, 4:-4].abs().max() < 0.02  # the same sense of turning


def test_noise_follows_from_the_picture_and_blur_keeps_the_mean() -> None:
    images = torch.full((3, 3, 32, 32), 0.5)
    noisy = Corruption("gaussian_noise", 2)
    whole = noisy(images, torch.tensor([4, 5, 6]))
    assert torch.equal(whole[1:2], noisy(images[:1], torch.tensor([5])))
    assert (whole - 0.5).std().item() == pytest.approx(0.12, rel=0.05)
    blurred = Corruption("gaussian_blur", 5)(torch.rand(1, 3, 64, 64), torch.arange(1))
    assert blurred.std() < 0.1 and blurred.mean().item() == pytest.approx(0.5, abs=0.03)
