"""JPEGs decoded at a reduced scale where that is enough, named wherever it counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform

from vitreous.data.dataset import Dataset
from vitreous.data.decoding import reduced_decoding, shorter_side
from vitreous.data.images import open_image
from vitreous.data.stores.files import FileImages
from vitreous.evaluation.loading import View, batches
from vitreous.models import Preprocessing

EXACT = Preprocessing((56, 56), 0.875)
REDUCED = dataclasses.replace(EXACT, decoding="reduced")


def photo(folder: Path, size: tuple[int, int], name: str = "a.jpg") -> Path:
    coarse = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    file = folder / name
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, quality=95)
    return file


def pixels(folder: Path, name: str, view: View) -> np.ndarray:
    images = FileImages(folder, [name])
    dataset = Dataset(images, np.zeros(1, np.int64))
    (batch,) = batches(dataset, view, np.arange(1))
    return batch.images[0].numpy().astype(int)


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ((640, 480), (80, 60)),  # an eighth leaves 60, which is less than 64
        ((640, 512), (80, 64)),
        ((127, 300), (127, 300)),
        ((128, 300), (64, 150)),
    ],
)
def test_the_shorter_side_stays_long_enough(tmp_path, size, found) -> None:
    file = photo(tmp_path, size)
    with reduced_decoding(shorter_side(60 if size == (640, 480) else 64)):
        assert open_image(file).size == found
    assert open_image(file).size == size


def test_what_is_no_large_jpeg_is_read_exactly(tmp_path) -> None:
    photo(tmp_path, (100, 90))
    photo(tmp_path, (400, 300), "b.png")
    for name in ("a.jpg", "b.png"):
        exact, reduced = (pixels(tmp_path, name, View(p)) for p in (EXACT, REDUCED))
        assert (exact == reduced).all()


def test_a_large_jpeg_looks_the_same_and_is_another_view(tmp_path) -> None:
    photo(tmp_path, (1024, 768))
    exact, reduced = (pixels(tmp_path, "a.jpg", View(p)) for p in (EXACT, REDUCED))
    assert 0 < np.abs(exact - reduced).mean() < 2 < exact.std()
    assert View(EXACT).described() != View(REDUCED).described()
    assert "decoding" not in EXACT.described() and REDUCED.described()["decoding"] == "reduced"


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (1024, 700), (60, 60), (41, 97)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["center", "squash"])
def test_whole_gives_timms_pixels_to_the_last_bit(tmp_path, size, interpolation, mode) -> None:
    file, ratio = photo(tmp_path, size), 0.875 if mode == "center" else 1.0
    timms = create_transform(
        (3, 56, 56),
        interpolation=interpolation,
        crop_pct=ratio,
        crop_mode=mode,
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    with Image.open(file) as image:
        expected = timms(image.convert("RGB")).mul(255).round().permute(1, 2, 0).numpy()
    whole = Preprocessing((56, 56), ratio, interpolation, mode, decoding="whole")
    assert (pixels(tmp_path, "a.jpg", View(whole)) == expected).all()


@pytest.mark.parametrize("other", [{"resize_mode": "as_is"}, {"border": 4}, {"masks": True}])
def test_views_that_count_pixels_of_the_file_are_exact(other) -> None:
    assert View(REDUCED).shortest == 64 and View(REDUCED, **other).shortest == 0
    assert View(dataclasses.replace(REDUCED, crop_mode="squash")).shortest == 56


def test_an_upright_photo_stays_upright(tmp_path) -> None:
    file = photo(tmp_path, (640, 512))
    turned = Image.Exif()
    turned[0x0112] = 6
    with Image.open(file) as image:
        image.save(tmp_path / "b.jpg", exif=turned)
    with reduced_decoding(shorter_side(64)):
        assert open_image(tmp_path / "b.jpg").size == (64, 80)
