"""A training's views of JPEGs that are decoded reduced: the same boxes, nearly the same pixels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.transforms import v2

from vitreous.config import build
from vitreous.data.composites.compositing import Placement
from vitreous.data.composites.sets import CompositeImages, Plan, Scene
from vitreous.data.dataset import Dataset
from vitreous.data.decoding import reduced_decoding, whole_of
from vitreous.data.images import open_image
from vitreous.data.loading import TransformedDataset, derive_seed, load_batches
from vitreous.data.stores import FileImages, FileMasks
from vitreous.data.transforms import TRANSFORMS, compose
from vitreous.data.transforms.geometry import RandomResizedCrop
from vitreous.training.settings import TransformSettings
from vitreous.training.setup import transformed

SIZE = (453, 341)  # in whole pixels of no reduced image
COUNT = 12
VIEWS = {
    "crop": {"random_resized_crop": {"size": 40}, "flip": {}},
    "bicubic": {"random_resized_crop": {"size": 40, "interpolation": "bicubic"}},
    "shorter side": {"resize": {"size": 48}, "quarter_turn": {}, "random_crop": {"size": 40}},
    "square": {"resize": {"size": 48, "square": True}, "random_resized_crop": {"size": 40}},
}


def photo(file: Path, number: int = 0, size: tuple[int, int] = SIZE) -> None:
    """A smooth photograph, and its brighter part as its mask."""
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (4, 5), dtype=np.uint8))
    gray = coarse.resize(size, Image.Resampling.BICUBIC)
    gray.convert("RGB").save(file.with_suffix(".jpg"), quality=98, subsampling=0)
    gray.point(lambda value: 255 * (value > 127)).save(file.with_suffix(".png"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        photo(folder / f"{number}", number)
    names = [f"{number}.jpg" for number in range(COUNT)]
    masks = FileMasks(folder, ["" if n == "3.jpg" else n.replace("jpg", "png") for n in names])
    return Dataset(FileImages(folder, names), np.zeros(COUNT, np.int64), masks=masks)


def views(photos: Dataset, name: str, *, reduced: bool) -> TransformedDataset:
    view = compose([build(TRANSFORMS[n], s) for n, s in VIEWS[name].items()])
    return TransformedDataset(photos, view.as_read, 1, view.reduction if reduced else None)


def opened(photos: Dataset, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The scales at which images are read from now on."""
    scales: list[int] = []
    read = type(photos).__getitem__

    def noted(dataset: Dataset, index: int):
        item = read(dataset, index)
        scales.append(whole_of(item.image).scale)
        return item

    monkeypatch.setattr(type(photos), "__getitem__", noted)
    return scales


@pytest.mark.parametrize("name", VIEWS)
def test_boxes_masks_and_pixels_are_those_of_whole_images(photos, monkeypatch, name) -> None:
    scales = opened(photos, monkeypatch)
    exact, reduced = (views(photos, name, reduced=r) for r in (False, True))
    for index in range(COUNT):
        one, other = exact[2, index], reduced[2, index]
        assert torch.equal(one["masks"], other["masks"])
        assert one["images"].dtype == other["images"].dtype == torch.uint8
        difference = (one["images"].int() - other["images"].int()).abs()
        assert difference.float().mean() < 0.5 and difference.max() <= 2, index
        if other["has_mask"]:
            # Masks are resized by nearest, which lies beside the image's filter in either case.
            mask = one["masks"] > 0.5
            beside = [((seen["images"][:1] > 127) != mask).float().mean() for seen in (one, other)]
            assert beside[1] < beside[0] + 0.005 < 0.1
    assert set(scales[::2]) == {1} and set(scales[1::2]) & {2, 4, 8}


def test_a_box_is_reduced_as_far_as_it_has_the_pixels_that_are_shown(photos) -> None:
    view = compose([RandomResizedCrop(40)])
    drawing = v2.RandomResizedCrop(40)
    for seed in range(40):
        torch.manual_seed(seed)
        scale = view.reduction(*SIZE)
        torch.manual_seed(seed)
        box = drawing.make_params([torch.empty(3, SIZE[1], SIZE[0])])
        least = min(box["height"], box["width"])
        assert least / scale >= 40 or scale == 1
        assert scale == 8 or least / (2 * scale) < 40


def test_images_are_reduced_as_the_box_that_is_shown_allows(photos, monkeypatch) -> None:
    scales, shown = opened(photos, monkeypatch), views(photos, "crop", reduced=True)
    for index in range(COUNT):
        shown[7, index]
        torch.manual_seed(derive_seed(1, 7, index))
        assert scales[index] == shown.reduction(*SIZE)
    assert len(set(scales)) > 1


@pytest.mark.parametrize(
    ("first", "size"),
    [
        ({"random_resized_crop": {"size": 40, "interpolation": "nearest"}}, SIZE),
        ({"random_crop": {"size": 40}}, SIZE),
        ({"quarter_turn": {}, "resize": {"size": 40}}, SIZE),
        ({"resize": {"size": 200}}, SIZE),
        ({}, SIZE),
    ],
)
def test_what_shows_single_pixels_is_not_reduced(first, size) -> None:
    view = compose([build(TRANSFORMS[n], s) for n, s in first.items()])
    assert view.reduction(*size) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_upright_photograph_is_cut_at_the_same_place(tmp_path, orientation) -> None:
    photo(tmp_path / "a", 5)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "b.jpg", exif=exif, quality=98, subsampling=0)
    whole = open_image(tmp_path / "b.jpg")
    with reduced_decoding(lambda width, height: 8 if (width, height) == whole.size else 1):
        reduced = open_image(tmp_path / "b.jpg")
    of = whole_of(reduced)
    assert (of.width, of.height) == whole.size and of.scale == 8
    left, top, right, bottom = of.place(0, 0, *whole.size)
    edges = [(left, right, whole.width, reduced.width), (top, bottom, whole.height, reduced.height)]
    for begins, ends, side, pixels in edges:
        assert 0 <= begins < 1 and ends <= pixels < ends + 1 and ends - begins == side / 8
    box = (0, 0, *whole.size)
    expected = np.asarray(whole.resize((40, 40), Image.Resampling.BILINEAR, box)).astype(int)
    shown = reduced.resize((40, 40), Image.Resampling.BILINEAR, (left, top, right, bottom))
    assert np.abs(np.asarray(shown) - expected).mean() < 1.0


def test_only_jpegs_are_reduced_and_only_inside(tmp_path) -> None:
    photo(tmp_path / "a")
    with reduced_decoding(lambda *_: 2):
        drawing = open_image(tmp_path / "a.png")
        assert drawing.size == SIZE and whole_of(drawing).scale == 1
        assert open_image(tmp_path / "a.jpg").size == (227, 171)
        with reduced_decoding(None):
            assert open_image(tmp_path / "a.jpg").size == SIZE
    assert open_image(tmp_path / "a.jpg").size == SIZE


@pytest.mark.parametrize("reduced", [False, True])
def test_bytes_cross_and_become_what_floats_were(photos, reduced) -> None:
    view = compose([build(TRANSFORMS[n], s) for n, s in VIEWS["crop"].items()])
    bytes_ = views(photos, "crop", reduced=reduced)
    floats = TransformedDataset(photos, view, 1, bytes_.reduction)
    order = [[5, 3, 0], [1, 2]]
    expected = [b.to(torch.device("cpu")) for b in load_batches(floats, order, 4)]
    for workers in (0, 2):
        read = list(load_batches(bytes_, order, 4, workers))
        assert {b.images.dtype for b in read} == {torch.uint8}
        assert {b.masks.dtype for b in read} == {torch.bool}
        for one, other in zip(expected, (b.to(torch.device("cpu")) for b in read)):
            assert torch.equal(one.images, other.images) and torch.equal(one.masks, other.masks)
            assert other.images.dtype == other.masks.dtype == torch.float32
            assert one.images.stride() == other.images.stride()
    before = torch.get_rng_state()
    image = bytes_[4, 5]["images"].float() / 255
    assert torch.allclose(floats[4, 5]["images"], image, atol=1e-7)
    assert torch.equal(before, torch.get_rng_state())


def test_soft_masks_and_floats_of_a_transform_cross_as_they_are(photos) -> None:
    def view(image: Image.Image, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        value = 0.0 if mask is None else 0.5
        shown = (
            torch.full((3, 2, 2), 51, dtype=torch.uint8) if mask is None else torch.ones(3, 2, 2)
        )
        return shown, torch.full((1, 2, 2), value)

    (batch,) = load_batches(TransformedDataset(photos, view), [[2, 3]], 0)
    batch = batch.to(torch.device("cpu"))
    assert batch.masks.flatten(1).mean(1).tolist() == [0.5, 0.0]
    assert batch.images.flatten(1).mean(1).tolist() == pytest.approx([1.0, 0.2])


@pytest.mark.parametrize("decoding", ["exact", "reduced"])
def test_a_recipe_asks_for_it_and_validation_stays_exact(photos, decoding) -> None:
    shown = {name: build(TRANSFORMS[name], values) for name, values in VIEWS["crop"].items()}
    settings = TransformSettings(shown, shown, decoding)
    recipe: Any = SimpleNamespace(training=SimpleNamespace(seed=1), transforms=settings)
    split: Any = SimpleNamespace(train=photos, validation=photos)
    train, validation = transformed(split, recipe)
    expected = views(photos, "crop", reduced=decoding == "reduced")
    exact = views(photos, "crop", reduced=False)
    for index in range(COUNT):
        assert torch.equal(train[7, index]["images"], expected[7, index]["images"])
        assert torch.equal(validation[7, index]["images"], exact[7, index]["images"])
    assert TransformSettings().decoding == "exact"


def test_what_is_pasted_is_read_whole(tmp_path) -> None:
    photo(tmp_path / "ground")
    cutout: Any = SimpleNamespace(
        label=0, name="a", open=lambda: open_image(tmp_path / "ground.jpg").convert("RGBA")
    )
    scenes = [Scene(0, 0, Placement())]
    plan = Plan([cutout], [tmp_path / "ground.jpg"], scenes, ("a",), size=100)
    exact = CompositeImages(plan).open(0)
    with reduced_decoding(lambda *_: 8):
        assert CompositeImages(plan).open(0).tobytes() == exact.tobytes()
