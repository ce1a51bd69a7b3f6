"""The backgrounds challenge from photographs with masks: what is shown, and its BG-gap."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import tiny_vit
from vitreous.cli import main
from vitreous.commands.evaluate import Generate
from vitreous.commands.generating import write_set
from vitreous.data.composites.backgrounds_challenge import (
    VERSIONS,
    plan_backgrounds,
    strips,
    tiled,
)
from vitreous.data.readers import read_dataset
from vitreous.errors import VitreousError
from vitreous.evaluation.test_sets import read_set
from vitreous.models import save_model
from vitreous.report.figures.accuracy import shift_figure
from vitreous.report.headline import headline
from vitreous.report.sources import read_sources

CLASSES = ("cow", "duck", "elk")
SIZES = ((40, 48), (48, 40), (64, 64), (40, 40))


def write_photo(root: Path, name: str, index: int, pixels: np.ndarray, mask: np.ndarray) -> None:
    for kind, array in (("photos", pixels), ("masks", mask.astype(np.uint8) * 255)):
        file = root / kind / name / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photographs of each class; red says the class, blue the photograph, green 255 an object.

    An object is a disc right of the middle, so that the strip on its left is the largest.
    """
    for number, name in enumerate(CLASSES):
        for index, (height, width) in enumerate(SIZES):
            pixels = np.zeros((height, width, 3), np.uint8)
            pixels[..., 0], pixels[..., 2] = 50 + 50 * number, 50 + 50 * index
            down, across = np.mgrid[:height, :width]
            thing = np.hypot(down - height // 2, across - (width - 14)) < 11
            pixels[thing, 1] = 255
            write_photo(tmp_path, name, index, pixels, thing)
    return tmp_path


def of_class(red: float) -> str:
    return CLASSES[round((red - 50) / 50)]


def test_each_version_shows_the_object_and_the_background_that_it_says(photos):
    data = read_dataset(photos / "photos", masks=photos / "masks")
    items = plan_backgrounds(data, seed=3)
    assert len(items) == len(data) == 12 and items.left_out == ()
    for row, exchange in enumerate(items.exchanges):
        item = data[exchange.image]
        inside = item.mask[0].numpy() > 0
        drawn = {version: np.asarray(items.draw(row, version)) for version in VERSIONS}
        original = np.asarray(item.image)
        assert (drawn["original"] == original).all()
        for version in ("only_fg", "mixed_same", "mixed_rand"):
            assert (drawn[version][inside] == original[inside]).all()
        assert not drawn["only_fg"][~inside].any()
        own = original[~inside][0]
        assert (drawn["only_bg_t"] == own).all()
        grounds = {v: drawn[v][~inside] for v in ("mixed_same", "mixed_rand")}
        for ground in grounds.values():
            assert (ground == ground[0]).all() and not (ground[0] == own).all()
        name = items.name(row).split("/")[0]
        assert of_class(own[0]) == name == of_class(grounds["mixed_same"][0, 0])
        assert of_class(grounds["mixed_rand"][0, 0]) != name
        for version, donor in (("mixed_same", exchange.same), ("mixed_rand", exchange.rand)):
            shown = np.asarray(data[donor].image)[0, 0]
            assert (grounds[version][0] == shown).all()
    donors = {(e.same, e.rand) for e in items.exchanges}
    assert len(donors) > 6
    assert plan_backgrounds(data, seed=3).exchanges == items.exchanges
    assert plan_backgrounds(data, seed=4).exchanges != items.exchanges
    few = plan_backgrounds(data, limit=5)
    assert len(few) == 5 and len({e.image for e in few.exchanges}) == 5


@pytest.mark.parametrize("turns", range(4))
def test_a_background_is_the_largest_strip_beside_the_box_tiled_from_the_corner(turns):
    numbers = np.rot90(np.arange(16 * 16).reshape(16, 16), turns)
    pixels = np.stack([numbers] * 3, -1).astype(np.uint8)
    # Upright: 3 columns are left of the box, 2 rows above it, 5 below, 1 column right of it.
    where = np.rot90(np.pad(np.ones((9, 12)), ((2, 5), (3, 1))), turns)
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert sorted(strips(box, 16, 16)) == [0, 2 * 16, 3 * 16, 5 * 16]
    part = np.rot90(np.arange(16 * 16).reshape(16, 16)[11:], turns)
    found = tiled(pixels, box)[..., 0]
    for y in range(16):
        for x in range(16):
            assert found[y, x] == part[y % part.shape[0], x % part.shape[1]]


def test_photographs_without_object_background_or_company_are_left_out_by_name(photos):
    full = np.ones((40, 40), bool)
    tiny = np.zeros((40, 40), bool)
    tiny[:5, :5] = True
    middle = np.zeros((40, 40), bool)
    middle[4:36, 4:36] = True
    grey = np.full((40, 40, 3), 99, np.uint8)
    for index, mask in ((7, full), (8, tiny), (9, middle)):
        write_photo(photos, "cow", index, grey, mask)
    write_photo(photos, "yak", 0, grey, np.pad(np.ones((20, 20), bool), ((20, 0), (20, 0))))
    Image.fromarray(grey).save(photos / "photos" / "cow" / "bare.png")
    data = read_dataset(photos / "photos", masks=photos / "masks")
    items = plan_backgrounds(data)
    assert len(items) == 12
    told = {passed.what: set(passed.names) for passed in items.left_out}
    assert told == {
        "photographs without a mask or a class": {"cow/bare.png"},
        "photographs whose object takes less than 0.1 or more than 0.7": {"cow/7.png", "cow/8.png"},
        "photographs that are alone in their class": {"yak/0.png"},
        "photographs without a strip beside": {"cow/9.png"},
    }
    for name in ("duck", "elk"):
        shutil.rmtree(photos / "photos" / name)
    alone = read_dataset(photos / "photos", masks=photos / "masks")
    with pytest.raises(
        VitreousError, match=r"expected 2 or more classes.*found 1; left out: .*alone in"
    ):
        plan_backgrounds(alone)


def made(photos: Path, out: Path, *more: str) -> int:
    given = ["--generate.cutouts", str(photos / "photos"), "--generate.factor"]
    return main(["evaluate", *given, "backgrounds_challenge", *more, "--out", str(out)])


def test_a_written_set_is_measured_version_by_version_with_its_gap(photos, tmp_path):
    out, run = tmp_path / "bg", tmp_path / "model"
    assert made(photos, out, "--generate.masks", str(photos / "masks")) == 0
    for version in VERSIONS:
        assert len(list((out / version).rglob("*.png"))) == 12
    items = plan_backgrounds(read_dataset(photos / "photos", masks=photos / "masks"))
    for row in range(12):
        for version in VERSIONS:
            stored = np.asarray(Image.open(out / version / items.name(row)))
            assert (stored == np.asarray(items.draw(row, version))).all()
    save_model(tiny_vit(3, class_names=[*CLASSES]), run)
    assert main(["evaluate", str(run), "--data", str(out), "--quiet"]) == 0
    records = json.loads((run / "results.json").read_text(encoding="utf-8"))["records"]
    top1 = {r["dataset"]: (r["suite"], r["value"]) for r in records if r["metric"] == "top1"}
    assert set(top1) == {f"bg-{version}" for version in VERSIONS}
    suites = {name.removeprefix("bg-"): suite for name, (suite, _) in top1.items()}
    assert suites == dict.fromkeys(VERSIONS, "backgrounds") | {
        "original": "clean",
        "mixed_rand": "shifts",
    }
    (gap,) = [r for r in records if r["metric"] == "background_gap"]
    assert gap["dataset"] == "bg" and gap["n"] == 12
    expected = top1["bg-mixed_same"][1] - top1["bg-mixed_rand"][1]
    assert gap["value"] == pytest.approx(expected, abs=1e-9) and expected != 0
    assert gap["ci95"][0] < gap["value"] < gap["ci95"][1]
    # As one of the sets of a suite, where classes are those of the model.
    again = tmp_path / "again"
    named = ["--sets", f"backgrounds-challenge={out}", "--quiet", "--out", str(again)]
    assert main(["evaluate", str(run), *named]) == 0
    other = json.loads((again / "results.json").read_text(encoding="utf-8"))["records"]
    assert [r["value"] for r in other if r["metric"] == "background_gap"] == [gap["value"]]


def test_an_interrupted_set_goes_on_and_another_one_is_not_mixed_in(photos, tmp_path, capsys):
    out, masks = tmp_path / "bg", ("--generate.masks", str(photos / "masks"))
    assert made(photos, out, *masks) == 0
    files = sorted(p for p in out.rglob("*.png"))
    before = {p: p.read_bytes() for p in files}
    kept = files[0].stat().st_mtime_ns
    lost = sorted((out / "masks").rglob("*.png"))[-1]
    for kind in ("masks", "mixed_rand"):
        (out / kind / lost.relative_to(out / "masks")).unlink()
    assert made(photos, out, *masks) == 0
    assert {p: p.read_bytes() for p in sorted(out.rglob("*.png"))} == before
    assert files[0].stat().st_mtime_ns == kept
    assert made(photos, out, *masks, "--generate.seed", "1") == 1
    assert "another plan" in capsys.readouterr().err
    parts = read_set("backgrounds-challenge", out, class_names=("elk", "duck", "cow"))
    assert [part.accepted for part in parts] == [((2,), (1,), (0,))] * 5
    (out / "mixed_rand" / lost.relative_to(out / "masks")).unlink()
    with pytest.raises(VitreousError, match=r"original and mixed_rand hold different images"):
        read_set("backgrounds-challenge", out, class_names=CLASSES, num_classes=3)
    with pytest.raises(VitreousError, match=r"expected the folders original, only_fg"):
        read_set("backgrounds-challenge", photos / "photos", class_names=CLASSES)


def test_settings_of_other_sets_are_refused_in_one_line(photos, tmp_path, capsys):
    out, masks = tmp_path / "bg", ("--generate.masks", str(photos / "masks"))
    for option, value in (("size", "64"), ("backgrounds", str(photos)), ("agreement", "0.5")):
        assert made(photos, out, *masks, f"--generate.{option}", value) == 1
        error = capsys.readouterr().err.strip()
        assert f"--generate.{option} is of --generate.factor" in error and "\n" not in error
    assert made(photos, out) == 1
    assert "no photographs with masks" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["../../out", "a/b", ".hidden", "a\\b", "c:d"])
def test_a_class_that_can_be_no_folder_is_refused_before_anything_is_drawn(photos, tmp_path, label):
    rows = ["path,label,mask"]
    for name, shown in (("cow", label), ("duck", "duck")):
        for index in range(2):
            place = f"{name}/{index}.png"
            rows.append(f"photos/{place},{shown},masks/{place}")
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(rows) + "\n", encoding="utf-8")
    before = set(tmp_path.rglob("*"))
    for factor in ("backgrounds_challenge", "size"):
        generate = Generate(cutouts=listed, factor=factor)
        if factor == "size":
            generate = dataclasses.replace(generate, backgrounds=photos / "photos", steps=2)
        with pytest.raises(VitreousError, match="cannot be the name of a folder"):
            write_set(generate, tmp_path / "deep" / "er" / factor)
    assert set(tmp_path.rglob("*")) == before


def test_masks_of_another_size_end_it_before_a_set_is_begun(photos, tmp_path, capsys):
    out, masks = tmp_path / "bg", photos / "masks"
    for file in masks.rglob("*.png"):
        Image.open(file).resize((20, 24)).save(file)
    assert made(photos, out, "--generate.masks", str(masks)) == 1
    assert "must be of one size" in capsys.readouterr().err
    assert not (out / "plan.json").exists()


def test_a_card_shows_every_version_and_takes_only_the_shift_for_one(photos, tmp_path):
    out, run = tmp_path / "bg", tmp_path / "model"
    assert made(photos, out, "--generate.masks", str(photos / "masks")) == 0
    save_model(tiny_vit(3, class_names=[*CLASSES]), run)
    assert main(["evaluate", str(run), "--data", str(out), "--quiet"]) == 0
    sources = read_sources([run])
    (tile,) = [tile for tile in headline(sources) if tile.title == "Shifted"]
    records = json.loads((run / "results.json").read_text(encoding="utf-8"))["records"]
    (shift,) = [r for r in records if r["metric"] == "top1" and r["dataset"] == "bg-mixed_rand"]
    assert tile.values[0].value == pytest.approx(shift["value"])
    (chart,) = shift_figure(sources)
    assert chart.categories == [
        "bg-original (clean)",
        "bg-mixed_rand",
        *(f"bg-{version} (backgrounds)" for version in ("only_fg", "only_bg_t", "mixed_same")),
    ]
