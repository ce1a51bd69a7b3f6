"""Answers image by image: paired differences of two runs, classes and what they are taken for."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest

from helpers import make_run
from vitreous import VitreousError
from vitreous.report import write_card
from vitreous.report.classes import class_tables
from vitreous.report.figures.classes import confusion_figures
from vitreous.report.predictions import Difference, differences, read_predictions
from vitreous.report.sources import read_sources
from vitreous.results import Results

COLUMNS = ("file", "group", "label", "prediction", "probability", "correct", "foreground_share")


def write_predictions(
    run: Path, answers: dict[str, tuple[str, str]], name: str = "val-12ab"
) -> None:
    """Write file → (label, prediction) as `vitreous evaluate` does."""
    path = run / "predictions" / name / "predictions.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        for file, (label, said) in answers.items():
            writer.writerow([file, "", label, said, 0.5, label == said, ""])


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    made = [make_run(tmp_path / name, name) for name in ("a", "b")]
    files = [f"{i}.png" for i in range(10)]
    write_predictions(made[0], {f: ("cat", "cat" if i < 5 else "dog") for i, f in enumerate(files)})
    said = {f: ("cat", "cat" if i != 0 else "dog") for i, f in enumerate(files[:8])}
    # an image that only one has, and one of another label under a name that both have
    others = {"other.png": ("cat", "dog"), "9.png": ("dog", "dog")}
    write_predictions(made[1], {**said, **others})
    return made


def test_differences_are_of_the_images_that_both_answered(runs, tmp_path):
    (told,) = differences(read_sources(runs))
    assert (told.n, told.gained, told.lost) == (8, 3, 1)
    assert told.value == pytest.approx(0.25)
    # by hand: (3.5 − 1.5 ± 1.96 √(5 − 2² / 10)) / 10
    assert told.interval == pytest.approx((-0.2204, 0.6204), abs=1e-4)
    text = write_card(runs, tmp_path / "card.html").read_text()
    assert "Image by image" in text and "+25.0" in text
    (runs[1] / "predictions/val-12ab/predictions.csv").unlink()
    assert "Image by image" not in write_card(runs, tmp_path / "card.html").read_text()


def test_the_paired_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    for (gain, loss), n in itertools.product([(0.1, 0.05), (0.3, 0.3), (0.2, 0.02)], [50, 400]):
        draws = random.multinomial(n, [gain, loss, 1 - gain - loss], 4000)
        ends = [Difference("x", 1, n, int(up), int(down)).interval for up, down, _ in draws]
        held = np.mean([low <= gain - loss <= high for low, high in ends])
        assert 0.93 <= held <= 0.995, (gain, loss, n, held)


def test_confusions_and_worst_classes_are_named_in_words(tmp_path):
    run = make_run(tmp_path / "a", "a")
    umbrella, tench = "n04507155", "n01440764"
    answers = {f"{i}": (umbrella, tench if i < 3 else umbrella) for i in range(4)}
    write_predictions(run, {**answers, "x": (tench, tench)})
    results = Results.read(run)
    table = {"name": [umbrella, tench], "n": [4, 1], "correct": [1, 1], "class": [0, 1]}
    results.extra["evaluation"] = {"val": {"n": 5, "per_class": table}}
    results.write(run / "results.json")
    (told,) = class_tables(read_sources([run]))
    assert told.confused == [("umbrella", "tench, Tinca tinca", 3, 4)]
    assert [name for name, _ in told.worst] == ["umbrella", "tench, Tinca tinca"]
    assert told.worst[0][1].value == 0.25 and told.worst[0][1].ci95 is not None
    (figure,) = confusion_figures(read_sources([run]))
    assert figure.values == [[1, 0], [0.75, 0.25]]
    text = write_card([run], tmp_path / "card.html").read_text()
    assert "umbrella" in text and "3 of 4" in text and umbrella not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", "no prediction"),
        ("file,label,prediction,correct\na,b,c,maybe\n", "expected True or False"),
        ("file,label,prediction,correct\na,b\n", "expected True or False"),
    ],
)
def test_a_table_of_another_make_is_told(tmp_path, text, message):
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(VitreousError, match=message):
        read_predictions(path)
