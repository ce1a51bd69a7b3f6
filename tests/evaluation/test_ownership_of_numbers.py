"""Through the command line: what is measured later replaces nothing of another set or model."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import write_squares
from vitreous.cli import main
from vitreous.evaluation.corruptions import CORRUPTIONS, corrupt
from vitreous.evaluation.loading import name_seed
from vitreous.io import read_json
from vitreous.models import load_model, save_model
from vitreous.report.predictions import differences, prediction_tables
from vitreous.report.sources import read_sources
from vitreous.results import Record, Results

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
# Figures without an interval, with the reason.
COUNTS = {
    "unreadable": "counts what is there, of nothing that is sampled",
    "not_finite": "the same",
    "constant_maps": "the same",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Sets `a/val` and `b/val` of two classes, masks, groups, and two models."""
    write_squares(tmp_path / "a", 8)
    (tmp_path / "a/images").rename(tmp_path / "a/val")
    shutil.copytree(tmp_path / "a/val", tmp_path / "b/val")
    for file in (tmp_path / "b/val").rglob("*.png"):
        Image.open(file).transpose(Image.Transpose.ROTATE_180).save(file)
    rows = [f"c{i % 2}/{i}.png,{('low', 'high')[i // 4]}" for i in range(8)]
    (tmp_path / "groups.csv").write_text("path,group\n" + "\n".join(rows) + "\n")
    for seed, name in enumerate(("m", "n")):
        torch.manual_seed(seed)
        model = load_model(
            "vit_tiny_patch16_224",
            pretrained=False,
            num_classes=2,
            class_names=["c0", "c1"],
            **TINY,
        )
        model.preprocessing = type(model.preprocessing)((32, 32), 1.0)
        save_model(model, tmp_path / name)
    return tmp_path


def evaluate(*words: object) -> int:
    options = ("--device", "cpu", "--workers", "0", "--quiet", "--batch-size", 4)
    samples = () if "--samples" in words else ("--samples", 0)
    return main([str(w) for w in ("evaluate", *words, *options, *samples)])


def current(folder: Path, **wanted: object) -> list[Record]:
    return Results.read(folder).find(**wanted)


def test_a_set_of_the_same_name_elsewhere_stands_beside(place: Path) -> None:
    out = place / "out"
    for side in "ab":
        assert evaluate(place / "m", "--data", place / side / "val", "--out", out) == 0
    assert len(current(out, metric="top1")) == 2
    entries = Results.read(out).extra["evaluation"].values()
    assert {e["place"] for e in entries} == {str(place / s / "val") for s in "ab"}
    (source,) = read_sources([out])
    names = {r.dataset for r in source.records}
    assert names == {"a/val", "b/val"}
    assert set(prediction_tables(source)) == set(source.results.extra["evaluation"]) == names


def test_a_set_is_the_same_whether_it_is_measured_alone_or_beside_another(place: Path) -> None:
    """Its records replace each other, its images are not answered again, and a part is no rival."""
    out, data = place / "out", [place / side / "val" for side in "ab"]
    roundabout = place / "b" / ".." / "a/val"
    for words in (("--limit", 4, "--data", *data), ("--data", data[1]), ("--data", roundabout)):
        assert evaluate(place / "m", *words, "--masks", place / "a/masks", "--out", out) == 0
    assert evaluate(place / "m", "--data", data[0], "--limit", 3, "--out", out) == 0
    top1 = current(out, metric="top1", suite="clean")
    assert {(r.dataset, r.source, r.n) for r in top1} == {("val", str(d), 8) for d in data}
    (source,) = read_sources([out])
    names = {"a/val", "b/val"}
    assert {r.dataset for r in source.records} == names
    entries = source.results.extra["evaluation"]
    assert {name: entry["n"] for name, entry in entries.items()} == dict.fromkeys(names, 8)
    assert len(list(out.glob("predictions/*/predictions.csv"))) == 2
    assert {name: len(table) for name, table in prediction_tables(source).items()} == dict.fromkeys(
        names, 8
    )


def test_a_model_of_one_set_stands_beside_one_of_two_sets_of_its_name(place: Path) -> None:
    data = [place / side / "val" for side in "ab"]
    assert evaluate(place / "m", "--data", *data, "--out", place / "first") == 0
    assert evaluate(place / "n", "--data", data[1], "--out", place / "second") == 0
    first, second = read_sources([place / "first", place / "second"])
    assert {r.dataset for r in first.records} == {"a/val", "b/val"}
    assert {r.dataset for r in second.records} == {"b/val"}
    (told,) = differences([first, second])
    assert (told.name, told.n) == ("b/val", 8)


def test_the_object_stays_visible_under_its_relevance(place: Path) -> None:
    """The overlay of the best and worst answers hides no part of the picture in the dark."""
    out = place / "out"
    assert evaluate(place / "m", "--data", place / "a/val", "--out", out, "--samples", 2) == 0
    (entry,) = Results.read(out).extra["evaluation"].values()
    for sample in [*entry["best"], *entry["worst"]]:
        image, shown = (
            np.asarray(Image.open(out / sample[kind]).convert("L"), np.float64)
            for kind in ("picture", "relevance")
        )
        assert (shown >= 0.5 * image - 2).all()


def test_pictures_on_the_card_stay_those_of_their_set(place: Path) -> None:
    """Another set of the name, or fewer images, write no picture over those that are shown."""
    out = place / "out"
    assert evaluate(place / "m", "--data", place / "a/val", "--out", out, "--samples", 2) == 0
    (entry,) = Results.read(out).extra["evaluation"].values()
    shown = [s["picture"] for kind in ("best", "worst") for s in entry[kind]]
    before = [(out / name).read_bytes() for name in shown]
    for words in ((place / "b/val",), (place / "a/val", "--limit", 3)):
        assert evaluate(place / "m", "--data", *words, "--out", out, "--samples", 2) == 0
    kept = Results.read(out).extra["evaluation"]["val"]
    assert [s["picture"] for kind in ("best", "worst") for s in kept[kind]] == shown
    assert [(out / name).read_bytes() for name in shown] == before


def test_results_of_another_model_are_told_not_mixed(place: Path, capsys) -> None:
    for name in "mn":
        kept = {"m": "x", "n": "y"}[name]
        shutil.copytree(place / name, place / kept / "model")
    out = place / "out"
    words = ("--data", place / "a/val", "--limit", 2, "--out", out)
    assert evaluate(place / "x/model", *words) == 0
    assert evaluate(place / "y/model", *words) == 1
    error = capsys.readouterr().err
    assert "holds results of" in error and "x/model" in error and "y/model" in error
    attack = [
        "attack",
        str(place / "y/model"),
        "--data",
        str(place / "a/val"),
        "--epsilon",
        "1/255",
    ]
    attack += ["--steps", "1", "--device", "cpu", "--workers", "0", "--quiet", "--out", str(out)]
    assert main(attack) == 1
    assert "holds results of" in capsys.readouterr().err
    assert evaluate(place / "x/model", *words) == 0


def test_pairs_are_of_the_images_as_they_are(place: Path) -> None:
    """Turned images have tables too, of the same length; they must not be paired with."""
    data = ("--data", place / "a/val")
    assert evaluate(place / "m", *data, "--out", place / "first") == 0
    assert evaluate(place / "n", *data, "--rotation", 90, 180, 270, "--out", place / "second") == 0
    (told,) = differences(read_sources([place / "first", place / "second"]))
    values = [
        current(place / f, suite="clean", metric="top1")[0].value for f in ("first", "second")
    ]
    assert told.value == pytest.approx(values[1] - values[0])
    turned = place / "second" / "predictions"
    for table in turned.glob("*/predictions.csv"):
        if '"angle"' in (table.parent / "header.json").read_text():
            table.write_text(table.read_text().replace("True", "False"))
    (again,) = differences(read_sources([place / "first", place / "second"]))
    assert (again.gained, again.lost) == (told.gained, told.lost)


def test_groups_come_from_a_file(place: Path) -> None:
    words = ("--data", place / "a/val", "--groups", place / "groups.csv", "--out", place / "out")
    assert evaluate(place / "m", *words) == 0
    groups = current(place / "out", metric="group_top1")
    assert {(r.settings["group"], r.n) for r in groups} == {("low", 4), ("high", 4)}
    (worst,) = current(place / "out", metric="worst_group_top1")
    assert worst.value == min(r.value for r in groups)
    (table,) = (place / "out").rglob("predictions.csv")
    with table.open(newline="") as opened:
        assert {row["group"] for row in csv.DictReader(opened)} == {"low", "high"}


def test_every_figure_with_n_has_an_interval(place: Path) -> None:
    words = ("--data", place / "a/val", "--groups", place / "groups.csv")
    words += ("--masks", place / "a/masks", "--rotation", 0, 90, "--noise", 1, "--blur", 1)
    assert evaluate(place / "m", place / "n", *words, "--out", place / "out") == 0
    records = Results.read(place / "out" / "n").records
    suites = {r.suite for r in records}
    assert suites == {"clean", "rotation", "corruptions", "explanation", "comparison"}
    without = {r.metric for r in records if r.n and r.ci95 is None and np.isfinite(r.value)}
    assert without <= COUNTS.keys()
    for record in records:
        if record.ci95 is not None and record.metric != "ece":
            low, high = record.ci95
            assert low - 1e-9 <= record.value <= high + 1e-9, record.metric


def test_corruptions_on_the_fly_are_those_of_corrupted_files(place: Path) -> None:
    """Each of the 15 at each severity: answers equal those on files that `corrupt` made."""
    own = ("--input.crop-ratio", 1.0)  # corruptions change the view, which is then the file
    data = (*own, "--data", place / "a/val")
    assert evaluate(place / "m", *data, "--corruptions", "all", "--out", place / "out") == 0
    records = current(place / "out", suite="corruptions", metric="top1")
    records = [r for r in records if "severity" in r.settings]
    points = {(r.settings["corruption"], r.settings["severity"]) for r in records}
    assert len(points) == len(records) == 75 and {k for k, _ in points} <= set(CORRUPTIONS)
    expected = {}
    for kind, severity in points:
        for name, probability in probabilities(place / "out", kind, severity).items():
            made = f"{name.removesuffix('.png')}-{kind}-{severity}.png"
            expected[made] = probability
            target = place / "made" / made
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(Image.open(place / "a/val" / name).convert("RGB"))
            random = np.random.default_rng([name_seed(name), *kind.encode()])
            Image.fromarray(corrupt(pixels, kind, severity, random)).save(target)
    assert evaluate(place / "m", *own, "--data", place / "made", "--out", place / "files") == 0
    assert probabilities(place / "files") == pytest.approx(expected, abs=1e-5)


def probabilities(out: Path, corruption: str = "", severity: int = 0) -> dict[str, float]:
    """File → probability, of the images as they are or under a corruption."""
    change = {"corruption": corruption, "severity": severity} if corruption else {}
    for table in out.rglob("predictions.csv"):
        if read_json(table.parent / "header.json")["settings"]["change"] == change:
            with table.open(newline="") as opened:
                return {row["file"]: float(row["probability"]) for row in csv.DictReader(opened)}
    raise AssertionError(f"no table of {change}")


def settings_of(folder: Path, metric: str) -> list[dict[str, object]]:
    """Settings of all records of a metric, whichever is shown."""
    return [r.settings for r in Results.read(folder).records if r.metric == metric]


def test_what_a_set_was_read_by_is_in_its_records(place: Path) -> None:
    """Labels, masks and view decide a value: another map, folder or view is another record."""
    out, data = place / "out", ("--data", place / "a/val")
    maps = []
    for name, classes in (("one.json", (0, 1)), ("two.json", (1, 0))):
        maps.append(place / name)
        maps[-1].write_text(json.dumps(dict(zip(("c0", "c1"), classes))))
    shutil.copytree(place / "a/masks", place / "b/masks")
    next((place / "b/masks").rglob("*.png")).write_bytes(b"")
    for words in (
        ("--class-map", maps[0], "--masks", place / "a/masks"),
        ("--class-map", maps[1], "--masks", place / "b/masks"),
        ("--class-map", maps[1], "--masks", place / "b/masks", "--no-squash"),
        ("--input.crop-ratio", 0.5, "--rotation", 90),
    ):
        assert evaluate(place / "m", *data, *words, "--out", out) == 0
    top1 = [s for s in settings_of(out, "top1") if "angle" not in s]
    told = [s.get("class_map", "") for s in top1]
    assert [str(t).partition(" ")[0] for t in told] == ["one.json", "two.json", ""]
    assert str(top1[-1]["preprocessing"]).startswith("32×32, 0.5")
    (right,) = {r.value for r in current(out, metric="top1", class_map=told[0])}
    (wrong,) = {r.value for r in current(out, metric="top1", class_map=told[1])}
    assert right + wrong == 1, "of two classes one map has right what the other has wrong"
    shares = settings_of(out, "foreground_share")
    assert len({str(s["masks"]) for s in shares}) == 2 and len(shares) == 3
    assert all("class_map" not in s for s in shares), "it looks at no label"
    assert [s.get("squash") for s in shares] == [None, None, False]
    areas = settings_of(out, "positive_area")
    assert [str(s["class_map"]).partition(" ")[0] for s in areas] == ["one.json"] + ["two.json"] * 2
    assert {s["scored_against"] for s in areas} == {"label"}
    assert all("preprocessing" in s for s in settings_of(out, "invariance"))
    entries = Results.read(out).extra["evaluation"]
    assert len(entries) == 3
    for entry, map_ in zip(entries.values(), ("one.json", "two.json", "None")):
        assert str(entry["settings"].get("class_map")).startswith(map_)
        assert entry["fingerprint"] and entry["name"] == "val"
    (curve, other) = list(entries.values())[1]["explanations"].values()
    assert "squash" not in curve["settings"] and other["settings"]["squash"] is False
    shown = read_sources([out])[0].results.extra["evaluation"]
    assert len(shown) == 3 and any("one.json" in name for name in shown)


def test_removal_of_what_has_no_label_says_so(place: Path) -> None:
    out = place / "out"
    data = ("--data", place / "a/val", "--masks", place / "a/masks")
    for classes, told in (({"c0": 0, "c1": []}, "label, else own prediction"), ({}, "label")):
        (place / "map.json").write_text(json.dumps({"c0": 0, "c1": 1, **classes}))
        assert evaluate(place / "m", *data, "--class-map", place / "map.json", "--out", out) == 0
        assert settings_of(out, "positive_area")[-1]["scored_against"] == told


def test_an_input_that_the_model_cannot_take_is_told_in_one_line(place: Path, capsys) -> None:
    out = place / "out"
    assert evaluate(place / "m", "--data", place / "a/val", "--input.size", 16, "--out", out) == 1
    error = capsys.readouterr().err
    assert "vitreous: --input.size 16 does not fit m, which takes 32 × 32" in error


def test_one_image_has_no_interval_of_a_mean(place: Path) -> None:
    assert (
        evaluate(place / "m", "--data", place / "a/val", "--limit", 1, "--out", place / "out") == 0
    )
    found = {r.metric: r.ci95 for r in Results.read(place / "out").records}
    assert found["nll"] is None and found["ece"] is None
    low, high = found["top1"]
    assert high - low > 0.5
