"""Tables of predictions, groups, and intervals of every figure that has n."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitreous.cli import main
from vitreous.evaluation.evaluators.accuracy import predictions
from vitreous.evaluation.evaluators.corruption import corruption_records, corruption_table
from vitreous.evaluation.metrics import (
    calibration,
    calibration_interval,
    class_mean_interval,
    effective_interval,
    mean_interval,
)
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.records import accuracy_records, factor_tables
from vitreous.evaluation.scoring import row_type
from vitreous.evaluation.segmentation import pointing_hits
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.tables import write_tables
from vitreous.evaluation.test_sets import read_set
from vitreous.models import Classifier, Preprocessing, load_model, save_model
from vitreous.results import Results, wilson_interval

QUIET = StreamSettings(batch_size=4, progress=False)


class Bright(nn.Module):
    """Class 1 where an image is bright."""

    num_classes = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = 8 * (images.mean((1, 2, 3)) - 0.5)
        return torch.stack([-light, light], 1)


CLASSIFIER = Classifier(
    Bright(),
    (0.0,) * 3,
    (1.0,) * 3,
    preprocessing=Preprocessing((8, 8), 1.0),
    class_names=["dark", "bright"],
)


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """Eight images in a CSV file: on water all dark ones are bright, so half are wrong."""
    lines = ["path,label,group"]
    for i in range(8):
        label, group = ("dark", "bright")[i % 2], ("land", "water")[i // 4]
        bright = label == "bright" or group == "water"
        Image.new("RGB", (8, 8), (200 if bright else 40,) * 3).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{label},{group}")
    (tmp_path / "7.png").write_bytes(b"broken")
    (tmp_path / "set.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "set.csv"


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def answers_on(path: Path, folder: Path) -> Predictions:
    names = ("dark", "bright")
    (test_set,) = read_set("folder", path, class_names=names, num_classes=2)
    return predictions(CLASSIFIER, test_set, folder, streaming=QUIET)


def test_accuracy_by_group_and_of_the_worst(grouped: Path, tmp_path: Path) -> None:
    records = accuracy_records(answers_on(grouped, tmp_path / "rows"))
    groups = {r.settings["group"]: (r.value, r.n) for r in records if r.metric == "group_top1"}
    assert groups == {"land": (1.0, 4), "water": (0.25, 4)}  # one of water is broken
    (worst,) = [r for r in records if r.metric == "worst_group_top1"]
    assert worst.value == 0.25 and worst.ci95 == wilson_interval(1, 4)


def test_the_worst_group_is_one_measurement_whichever_group_it_is(
    grouped: Path, tmp_path: Path
) -> None:
    """Measured on more images, or of another model, another group may be the worst."""
    first = accuracy_records(answers_on(grouped, tmp_path / "rows"))
    lines = grouped.read_text(encoding="utf-8").splitlines()
    swapped = [line.replace("land", "x").replace("water", "land") for line in lines]
    grouped.write_text("\n".join(swapped).replace(",x", ",water"), encoding="utf-8")
    second = accuracy_records(answers_on(grouped, tmp_path / "rows"))
    topics = [
        {r.topic() for r in records if r.metric == "worst_group_top1"}
        for records in (first, second)
    ]
    assert len(topics[0]) == 1 and topics[0] == topics[1]


def test_predictions_are_a_table_of_the_users(grouped: Path, tmp_path: Path) -> None:
    answers = answers_on(grouped, tmp_path / "rows")
    folder = write_tables(CLASSIFIER, answers, {answers.dataset.name(0): 0.75})
    assert folder == answers.folder
    rows = read_csv(folder / "predictions.csv")
    assert [Path(r["file"]).name for r in rows] == [f"{i}.png" for i in range(8)]
    assert rows[0]["foreground_share"] == "0.75" and not rows[1]["foreground_share"]
    first, wrong, broken = rows[0], rows[4], rows[7]
    assert (first["group"], first["label"], first["prediction"]) == ("land", "dark", "dark")
    assert (wrong["prediction"], wrong["correct"]) == ("bright", "False")
    assert 0.5 < float(wrong["probability"]) < 1
    assert (broken["prediction"], broken["correct"]) == ("", "False")
    classes = {r["class"]: (r["n"], r["correct"]) for r in read_csv(folder / "per_class.csv")}
    assert classes == {"dark": ("4", "2"), "bright": ("4", "3")}
    (dark,) = [r for r in read_csv(folder / "confusion.csv") if r["label"] == "dark"]
    assert (dark["dark"], dark["bright"], dark["(not read)"]) == ("2", "2", "0")


def test_parquet_says_the_same(grouped: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = write_tables(CLASSIFIER, answers_on(grouped, tmp_path / "rows"))
    rows = parquet.read_table(folder / "predictions.parquet").to_pylist()
    said = [r["prediction"] or "" for r in read_csv(folder / "predictions.csv")]
    assert [r["prediction"] or "" for r in rows] == said


def test_the_command_says_where_the_predictions_are(tmp_path: Path, capsys) -> None:
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (90,) * 3).save(tmp_path / "set" / name / "0.png")
    model = load_model("resnet10t", pretrained=False, num_classes=2, class_names=["a", "b"])
    save_model(model, tmp_path / "model")
    options = ["--device", "cpu", "--workers", "0", "--quiet", "--samples", "0"]
    options += ["--data", str(tmp_path / "set"), "--corruptions", "fog", "--severities", "2"]
    assert main(["evaluate", str(tmp_path / "model"), *options, "--out", str(tmp_path / "o")]) == 0
    (line,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("predictions:")]
    assert len(read_csv(Path(line.partition(": ")[2]))) == 2
    (fog,) = Results.read(tmp_path / "o").find(suite="corruptions")
    assert fog.settings["corruption"] == "fog" and fog.settings["severity"] == 2
    assert main(["evaluate", str(tmp_path / "model"), *options, "--corruptions", "smog"]) == 1
    assert "unknown corruption 'smog'" in capsys.readouterr().err


def covered(truth: float, draw, interval, repeats: int = 200) -> float:
    """How often an interval holds the truth."""
    random = np.random.default_rng(0)
    bounds = [interval(draw(random)) for _ in range(repeats)]
    return float(np.mean([low <= truth <= high for low, high in bounds]))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    chances = np.array([0.9, 0.6, 0.3])
    sizes = np.array([60, 40, 50])
    share = covered(
        chances.mean(),
        lambda r: r.binomial(sizes, chances),
        lambda right: class_mean_interval(right, sizes),
    )
    assert 0.88 <= share <= 0.99
    share = covered(0.5, lambda r: r.uniform(0, 1, 80), lambda v: mean_interval(v, draws=300))
    assert 0.88 <= share <= 0.99
    expected = 0.5 - 1 / (1 + np.exp(-(0.1 + np.log(0.7 / 0.3))))
    share = covered(
        expected,
        lambda r: (r.binomial(200, 0.7), r.binomial(150, 0.5)),
        lambda k: effective_interval((k[0], 200), (k[1], 150), (0.1, 1.0), draws=300),
    )
    assert 0.88 <= share <= 0.99


def test_the_interval_of_the_calibration_error_holds_it() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 300)
    correct = random.uniform(0, 1, 300) < confidence - 0.2
    low, high = calibration_interval(confidence, correct)
    assert 0 <= low < calibration(confidence, correct).error < high < 0.4
    again = calibration_interval(confidence, correct)
    assert again == (low, high)  # seeded


def test_records_with_n_have_an_interval(grouped: Path, tmp_path: Path) -> None:
    for record in accuracy_records(answers_on(grouped, tmp_path / "rows")):
        if record.metric != "unreadable":
            assert record.ci95 is not None, record.metric
            assert record.ci95[0] <= record.value <= record.ci95[1], record.metric


def test_factors_have_wilson_intervals(grouped: Path, tmp_path: Path) -> None:
    answers = answers_on(grouped, tmp_path / "rows")
    varied = dataclasses.replace(answers.test_set, factors={"size": np.array(["1", "10"] * 4)})
    (table,) = factor_tables(dataclasses.replace(answers, test_set=varied))
    assert table["value"] == [1.0, 10.0] and table["n"] == [4, 4]
    assert (table["low"][0], table["high"][0]) == wilson_interval(2, 4)


def corrupted(wrong: float, kind: str, severity: int, seed: int, names: str = "") -> Predictions:
    from vitreous.data.dataset import Dataset
    from vitreous.data.stores.arrays import ArrayImages
    from vitreous.evaluation.test_sets import TestSet

    pixels, n = torch.zeros(100, 1, 1, 3, dtype=torch.uint8), 100
    labels = np.zeros(n, np.int64)
    dataset = Dataset(ArrayImages(pixels, [f"{names}{i}" for i in range(n)]), labels)
    settings = {"corruption": kind, "severity": severity}
    test_set = TestSet("imagenet-c", dataset, labels, ((0,),), settings=settings)
    rows = np.zeros(n, row_type(test_set.conventions))
    rows["index"] = np.arange(n)
    rows["rank0"] = np.random.default_rng(seed).uniform(0, 1, n) < wrong
    return Predictions(test_set, rows, {}, Preprocessing())


def test_corruption_errors_are_bounded_image_by_image() -> None:
    """The same image is hard under every corruption: the interval must be as wide as of one."""
    same = [corrupted(0.4, kind, 1, seed=0) for kind in ("snow", "fog", "frost")]
    other = [corrupted(0.4, kind, 1, seed=s) for s, kind in enumerate(("snow", "fog", "frost"))]
    apart = [corrupted(0.4, kind, 1, 0, names=kind) for kind in ("snow", "fog", "frost")]

    def width(parts: list[Predictions]) -> float:
        (record,) = [r for r in corruption_records(parts) if r.metric == "mean_error"]
        assert record.ci95 is not None and record.ci95[0] < record.value < record.ci95[1]
        return record.ci95[1] - record.ci95[0]

    assert width(same) > 1.4 * width(other)
    assert width(same) > 1.4 * width(apart)
    table = corruption_table(same)
    assert all(
        low < error < high
        for low, error, high in zip(table["error_low"], table["error"], table["error_high"])
    )


def test_pointing_is_that_of_the_published_code() -> None:
    """A loop over pixels, after the description of Zhang et al.'s code, tolerance 15 pixels."""
    random = torch.Generator().manual_seed(0)
    maps = torch.rand(20, 1, 40, 30, generator=random).mul(20).round()
    masks = (torch.rand(20, 1, 40, 30, generator=random) < 0.003).float()
    maps[0] = 0.5  # constant: it points at the first pixel
    masks[0], masks[0, 0, 14, 3], masks[1] = 0, 1, 0
    masks[2], masks[2, 0, 39, 29] = 0, 1
    expected = []
    for relevance, mask in zip(maps[:, 0], masks[:, 0]):
        best = max(range(1200), key=lambda i: (float(relevance.flatten()[i]), -i))
        y, x = divmod(best, 30)
        near = [(i - y) ** 2 + (j - x) ** 2 < 225 for i, j in mask.nonzero().tolist()]
        expected.append(float(any(near)))
    assert pointing_hits(maps, masks).tolist() == expected
    assert expected[0] == 1 and 0 < sum(expected) < 20
    edge = torch.zeros(2, 1, 40, 30)
    edge[0, 0, 15, 0], edge[1, 0, 14, 0] = 1, 1  # 15 pixels from the first one, and 14
    assert pointing_hits(torch.ones(2, 1, 40, 30), edge).tolist() == [0.0, 1.0]
