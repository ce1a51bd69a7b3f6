"""Effective robustness of each set that has a published line: both axes as the testbed counts.

Taori et al. 2020 measure -V2 and -Sketch against all of ImageNet's validation set, and -A, -R and
ObjectNet against its images of the classes of the shift, deciding among these on both axes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.evaluation.effective import effective_records, published_accuracies
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.scoring import Scorer
from vitreous.evaluation.test_sets import TestSet, read_set
from vitreous.models import Preprocessing

STINGRAY, GOLDFISH, BANANA, TENCH, ORANGE = 6, 1, 954, 0, 950
# Set: folder of its images, their class, another of its classes, the rule; tench is in none of the
# last three sets.
SHIFTS = {
    "imagenet-v2-matched-frequency": ("1", GOLDFISH, STINGRAY, "all classes"),
    "imagenet-v2-threshold-0.7": ("1", GOLDFISH, STINGRAY, "all classes"),
    "imagenet-v2-top-images": ("1", GOLDFISH, STINGRAY, "all classes"),
    "imagenet-sketch": ("n01443537", GOLDFISH, STINGRAY, "all classes"),
    "imagenet-a": ("n01498041", STINGRAY, BANANA, "200 classes of imagenet-a"),
    "imagenet-r": ("n01443537", GOLDFISH, BANANA, "200 classes of imagenet-r"),
    "objectnet": ("images/banana", BANANA, ORANGE, "113 classes of objectnet"),
}
WNIDS = {GOLDFISH: "n01443537", STINGRAY: "n01498041", BANANA: "n07753592", TENCH: "n01440764"}


def write(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (20, 20), (90, 120, 30)).save(folder / f"{number}.png")


def answered(test_set: TestSet, logits: torch.Tensor) -> Predictions:
    scorer = Scorer(test_set, 1000, torch.device("cpu"))
    rows = scorer.rows(torch.arange(len(test_set)), logits)
    return Predictions(test_set, rows, {}, Preprocessing())


def four_answers(right: int, other: int) -> torch.Tensor:
    """Logits (4, 1000): right; tench before the right class; twice another class of the set."""
    logits = torch.zeros(4, 1000)
    logits[0, right] = 9
    logits[1, TENCH], logits[1, right] = 9, 8
    logits[2:, other] = 9
    return logits


@pytest.mark.parametrize("shift", list(published_accuracies()["shifts"]))
def test_both_axes_are_counted_as_the_testbed_counts(shift: str, tmp_path: Path) -> None:
    folder, right, other, home_name = SHIFTS[shift]
    write(tmp_path / "shift" / folder, 4)
    (shifted,) = read_set(shift, tmp_path / "shift")
    write(tmp_path / "val" / WNIDS[right], 4)
    write(tmp_path / "val" / WNIDS[TENCH], 1)
    (home,) = read_set("imagenet-val", tmp_path / "val")
    answers = {right: four_answers(right, other), TENCH: torch.eye(1000)[:1]}
    labels = home.dataset.labels
    assert labels is not None
    logits = torch.cat([answers[c] for c in dict.fromkeys(labels.tolist())])

    records, entries = effective_records(
        answered(home, logits), [answered(shifted, four_answers(right, other))]
    )

    # Of all classes the second image is wrong, and the tench counts at home; among the classes of
    # the shift tench is no answer and its image is not counted.
    everywhere = home_name == "all classes"
    expected = [(1 + 1) / 5, 1 / 4] if everywhere else [2 / 4, 2 / 4]
    assert entries[shift]["model"] == expected
    assert str(records[0].settings["home"]).endswith(home_name.split(" ", 1)[1])
    assert np.isfinite(records[0].value)
