"""Compositing: exact masks, controlled placement, sets that follow from a seed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vitreous.data.composites.compositing import Placement, composite, placements, share_inside
from vitreous.data.composites.cutouts import find_cutouts, open_cutout
from vitreous.data.composites.sets import Plan, composites, plan, write_composites
from vitreous.data.mask_files import read_mask
from vitreous.data.readers import READERS
from vitreous.errors import ImageError, VitreousError

RED, BLUE = (250, 10, 10, 255), (10, 10, 240)


def rectangle(width: int, height: int) -> Image.Image:
    return Image.new("RGBA", (width, height), RED)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name, shape in (("disc", "ellipse"), ("plank", "rectangle")):
        image = Image.new("RGBA", (90, 70))
        getattr(ImageDraw.Draw(image), shape)((20, 10, 70, 50), fill=RED)
        (tmp_path / "cutouts" / name).mkdir(parents=True)
        image.save(tmp_path / "cutouts" / name / "one.png")
    (tmp_path / "grounds").mkdir()
    for value in (40, 120, 200):
        Image.new("RGB", (130, 100), (value, value, 60)).save(
            tmp_path / "grounds" / f"{value:03d}.png"
        )
    return tmp_path / "cutouts", tmp_path / "grounds"


def test_the_mask_is_where_the_picture_differs_from_the_background():
    ground = Image.new("RGB", (200, 120), BLUE)
    made = composite(rectangle(30, 50), ground, Placement(0.3, 0.6, 0.25, 31))
    pixels = np.asarray(made.image)
    # Nearer to the object's colour than to the ground's, judged from the picture alone.
    nearer = np.abs(pixels - np.array(RED[:3])).sum(-1) < np.abs(pixels - np.array(BLUE)).sum(-1)
    differ = nearer != made.mask[0].numpy().astype(bool)
    assert differ.mean() < 2e-3


@pytest.mark.parametrize("area", [0.01, 0.2, 0.7])
def test_area_and_centre_are_those_asked_for(area):
    made = composite(rectangle(40, 20), Image.new("RGB", (400, 400)), Placement(0.4, 0.55, area))
    rows, columns = np.nonzero(made.mask[0].numpy())
    assert made.mask.mean() == pytest.approx(
        area if made.inside == 1 else area * made.inside, rel=0.03
    )
    if made.inside == 1:
        assert columns.mean() == pytest.approx(160, abs=1)
        assert rows.mean() == pytest.approx(220, abs=1)


def test_a_positive_angle_turns_counterclockwise():
    bar = rectangle(100, 10)
    made = composite(bar, Image.new("RGB", (300, 300)), Placement(area=0.02, rotation=30))
    rows, columns = np.nonzero(made.mask[0].numpy())
    right = rows[columns > 180].mean()
    assert right < 140  # its right end is above the centre


def test_what_leaves_the_picture_is_cut_off_and_counted():
    frame = (100, 100)
    corner = Placement(0.0, 0.0, 0.16)
    made = composite(rectangle(10, 10), Image.new("RGB", frame), corner)
    assert made.inside == pytest.approx(0.25)
    assert made.mask.sum() == 400
    turned = Placement(0.9, 0.2, 0.3, 47)
    assert (
        share_inside((10, 10), frame, turned)
        == composite(rectangle(10, 10), Image.new("RGB", frame), turned).inside
    )


def test_transparent_colour_does_not_bleed_into_the_edge():
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    ImageDraw.Draw(image).ellipse((8, 8, 56, 56), fill=(255, 0, 0, 255))
    made = composite(image, Image.new("RGB", (300, 300)), Placement(area=0.5, rotation=20))
    assert np.asarray(made.image)[..., 1].max() <= 2


def test_the_grids_are_those_of_si_score():
    location, rotation, size = (placements(f) for f in ("location", "rotation", "size"))
    assert len(location) == 441 and {p.area for p in location} == {0.2}
    assert sorted({p.rotation for p in rotation}) == list(range(1, 361, 20))
    assert {p.area for p in rotation} == {0.2, 0.5, 0.8, 1.0}
    assert [p.area for p in size] == pytest.approx(np.arange(0.01, 1.005, 0.01))


def test_a_set_follows_from_its_seed(folders):
    cutouts, _ = find_cutouts(folders[0])
    grounds = sorted(folders[1].iterdir())
    first, again, other = (plan(cutouts, grounds, "random", seed=s) for s in (0, 0, 1))
    assert first == again and first != other
    inside = plan(cutouts, grounds, "location", minimum_inside=0.95, size=100)
    assert 0 < len(inside) < len(plan(cutouts, grounds, "location", size=100))


def test_a_written_set_is_matched_by_name_and_continues(folders, tmp_path):
    cutouts, names = find_cutouts(folders[0])
    grounds = sorted(folders[1].iterdir())
    scenes = plan(cutouts, grounds, "rotation", steps=2, backgrounds_per_cutout=1)
    items = Plan(cutouts, grounds, scenes, names, size=64)
    root = write_composites(items, tmp_path / "set", "rotation")
    with (root / "images" / "factors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(items) and set(rows[0]) == {"path", "area", "rotation"}
    for index, row in enumerate(rows):
        item = composites(items)[index]
        image, mask, label = item.image, item.mask, item.label
        assert row["path"].startswith(names[label])
        assert (np.asarray(Image.open(root / "images" / row["path"])) == np.asarray(image)).all()
        assert (read_mask(root / "masks" / row["path"]) == mask).all()
    kept, gone = root / "images" / rows[0]["path"], root / "masks" / rows[1]["path"]
    before = kept.stat().st_mtime_ns
    gone.unlink()
    write_composites(items, root, "rotation")
    assert gone.is_file() and kept.stat().st_mtime_ns == before


def test_a_second_plan_does_not_go_into_the_folder_of_a_first(folders, tmp_path):
    cutouts, names = find_cutouts(folders[0])
    grounds = sorted(folders[1].iterdir())

    def make(factor, seed=0):
        scenes = plan(cutouts, grounds, factor, steps=2, backgrounds_per_cutout=1, seed=seed)
        return Plan(cutouts, grounds, scenes, names, size=32)

    root = write_composites(make("size"), tmp_path / "set", "size")
    before = {path: path.read_bytes() for path in root.rglob("*.*")}
    for other, factor in ((make("rotation"), "rotation"), (make("size", seed=5), "size")):
        with pytest.raises(VitreousError, match=r"another plan \(size, 4\).*another --out"):
            write_composites(other, root, factor)
    assert {path: path.read_bytes() for path in root.rglob("*.*")} == before
    stray = root / "images" / "disc" / "holiday.png"
    Image.new("RGB", (4, 4)).save(stray)
    with pytest.raises(VitreousError, match=r"1 pictures that are not .*images/disc/holiday.png"):
        write_composites(make("size"), root, "size")
    (tmp_path / "other" / "images").mkdir(parents=True)
    stray.rename(tmp_path / "other" / "images" / "000000.png")
    with pytest.raises(VitreousError, match="not of this set"):
        write_composites(make("size"), tmp_path / "other", "size")


def test_the_source_keeps_backgrounds_of_training_and_validation_apart(folders):
    source = READERS["composites"](str(folders[0]), str(folders[1]), steps=3, size=48)
    split = source.load(seed=0)
    assert split.class_names == ["disc", "plank"]
    assert not set(split.train.images.plan.backgrounds) & set(
        split.validation.images.plan.backgrounds
    )
    assert not split.train.left_out
    Image.new("RGB", (8, 8)).save(folders[0] / "disc" / "photo.jpg")
    (passed,) = source.load(seed=0).train.left_out
    assert str(passed) == "1 images without transparency (disc/photo.jpg)"
    item = split.train[0]
    image, mask, label = item.image, item.mask, item.label
    assert image.size == (48, 48) and mask.shape == (1, 48, 48) and mask.any() and label == 0


def test_what_is_no_cut_out_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "opaque.png")
    Image.new("RGBA", (8, 8)).save(tmp_path / "empty.png")
    with pytest.raises(ImageError, match=r"opaque\.png has no alpha"):
        open_cutout(tmp_path / "opaque.png")
    with pytest.raises(ImageError, match=r"empty\.png is transparent"):
        open_cutout(tmp_path / "empty.png")
    with pytest.raises(VitreousError, match="0 cut-outs"):
        plan([], [], "size")
