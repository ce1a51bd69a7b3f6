"""Readers: each format against masks that were drawn independently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from vitreous.errors import VitreousError
from vitreous.masks import MASK_METHODS, Found, MaskError
from vitreous.masks.base import find_masks
from vitreous.masks.methods.alpha import Alpha
from vitreous.masks.methods.arrays import Arrays
from vitreous.masks.methods.boxes import Boxes
from vitreous.masks.methods.coco import Coco
from vitreous.masks.methods.png import BinaryFiles, ImageNetS, Palette
from vitreous.masks.methods.relevance import consensus
from vitreous.masks.methods.saliency import Onnx
from vitreous.masks.methods.yolo import Yolo

WIDTH, HEIGHT = 60, 40
TRUTH = np.zeros((HEIGHT, WIDTH), bool)
TRUTH[10:30, 20:50] = True


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a" / "one.jpg")
    return folder


def only(source, images: Path | None) -> Found | MaskError:
    items = source.items(images)
    assert len(items) == 1
    return source.find(items)[0]


def mask_of(source, images: Path | None) -> np.ndarray:
    found = only(source, images)
    assert isinstance(found, Found), found
    return found.mask


def write_png(folder: Path, array: np.ndarray) -> Path:
    (folder / "a").mkdir(parents=True)
    Image.fromarray(array).save(folder / "a" / "one.png")
    return folder


def test_every_format_of_the_list_is_there():
    wanted = "png palette imagenet_s alpha coco yolo boxes numpy tokencut onnx rembg relevance sam"
    assert set(MASK_METHODS) == set(wanted.split())


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "one bit"])
def test_alpha_channels_of_any_kind(tmp_path, kind):
    opacity = np.where(TRUTH, 200, 100).astype(np.uint8)
    color = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    (tmp_path / "p").mkdir()
    path = tmp_path / "p" / "one.png"
    if kind == "RGBA":
        Image.fromarray(np.dstack([color, opacity])).save(path)
    elif kind == "LA":
        Image.fromarray(np.dstack([color[..., 0], opacity])).save(path)
    elif kind == "P":
        indices = Image.fromarray(np.where(TRUTH, 3, 1).astype(np.uint8)).convert("P")
        indices.putpalette(list(range(256)) * 3)
        indices.putdata(np.where(TRUTH, 3, 1).ravel().tolist())
        indices.save(path, transparency=bytes([255, 0, 0, 255]))
    else:
        gray = np.where(TRUTH, 90, 40).astype(np.uint8)
        Image.fromarray(gray).save(path, transparency=40)
    assert (mask_of(Alpha(), tmp_path / "p") == TRUTH).all()


def test_a_picture_without_transparency_is_told(images):
    assert "has no alpha channel" in str(only(Alpha(), images))


def test_black_and_white(images, tmp_path):
    folder = write_png(tmp_path / "m", TRUTH.astype(np.uint8) * 255)
    assert (mask_of(BinaryFiles(folder), images) == TRUTH).all()
    assert (mask_of(BinaryFiles(folder), None) == TRUTH).all()


def test_imagenet_s_classes_above_255_and_ignored_pixels(images, tmp_path):
    classes = np.where(TRUTH, 700, 0)
    classes[:5] = 1000
    array = np.stack([classes % 256, classes // 256, 0 * classes], -1).astype(np.uint8)
    assert (mask_of(ImageNetS(write_png(tmp_path / "m", array)), images) == TRUTH).all()


def test_palette_classes_and_unlabelled_borders(images, tmp_path):
    indices = np.where(TRUTH, 7, 0).astype(np.uint8)
    indices[0] = 255
    indices[35:] = 3
    image = Image.fromarray(indices).convert("P")
    image.putpalette(list(range(256)) * 3)
    image.putdata(indices.ravel().tolist())
    folder = tmp_path / "m" / "a"
    folder.mkdir(parents=True)
    image.save(folder / "one.png")
    assert (mask_of(Palette(tmp_path / "m", classes=(7,)), images) == TRUTH).all()
    both = mask_of(Palette(tmp_path / "m"), images)
    assert both[35:].all() and not both[0].any()


@pytest.mark.parametrize(
    "convert",
    [
        lambda t: t,
        lambda t: t.astype(np.uint8) * 255,
        lambda t: t.astype(np.float32)[None] * 0.9,
        lambda t: t.astype(np.int64)[..., None],
    ],
)
def test_arrays_of_any_kind(images, tmp_path, convert: Callable):
    (tmp_path / "m" / "a").mkdir(parents=True)
    np.save(tmp_path / "m" / "a" / "one.npy", convert(TRUTH))
    assert (mask_of(Arrays(tmp_path / "m"), images) == TRUTH).all()


SQUARE = [20, 10, 50, 10, 50, 30, 20, 30]


def coco_file(path: Path, segmentation, **changes) -> Path:
    content = {
        "images": [{"id": 5, "file_name": "a/one.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"image_id": 5, "category_id": 2, "segmentation": segmentation}],
        "categories": [{"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return path


def run_lengths(mask: np.ndarray) -> list[int]:
    """Uncompressed COCO run lengths: column by column, zeros first."""
    flat = mask.ravel(order="F").astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, flat.size]).tolist()
    return [0, *counts] if flat[0] else counts


def test_coco_polygons_and_run_lengths(images, tmp_path):
    polygon = coco_file(tmp_path / "p.json", [SQUARE])
    assert (mask_of(Coco(polygon), images) == TRUTH).all()
    assert (mask_of(Coco(polygon), None) == TRUTH).all()
    lengths = {"size": [HEIGHT, WIDTH], "counts": run_lengths(TRUTH)}
    assert (mask_of(Coco(coco_file(tmp_path / "r.json", lengths)), images) == TRUTH).all()
    assert not mask_of(Coco(polygon, categories=("dog",)), images).any()
    with pytest.raises(VitreousError, match="did you mean 'dog'"):
        only(Coco(polygon, categories=("dogs",)), images)


def compressed(counts: list[int]) -> str:
    """COCO's text of run lengths: differences to the one before the last, 5 bits a character."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 if more else bits))
    return text


def test_coco_compressed_run_lengths(images, tmp_path):
    holes = TRUTH.copy()
    holes[12:25:3, 22:48:5] = False
    holes[0, 0] = True
    lengths = {"size": [HEIGHT, WIDTH], "counts": compressed(run_lengths(holes))}
    assert (mask_of(Coco(coco_file(tmp_path / "r.json", lengths)), images) == holes).all()


def distances(polygon: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """By brute force for each pixel's centre: inside (even-odd rule), and distance to the edge."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside, nearest = np.zeros(x.shape, bool), np.full(x.shape, np.inf)
    points = np.reshape(polygon, (-1, 2))
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0)):
        crosses = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        t = along.clip(0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0)))
    return inside, nearest


@pytest.mark.parametrize(
    "polygon", [[5, 35, 55, 30, 20, 4], [3, 3, 50, 6, 30, 18, 56, 37, 8, 33, 15, 20]]
)
def test_polygons_of_any_shape_are_filled_to_the_pixel(images, tmp_path, polygon):
    inside, edge = distances(polygon)
    (tmp_path / "l").mkdir()
    shares = [v / (WIDTH, HEIGHT)[i % 2] for i, v in enumerate(polygon)]
    (tmp_path / "l" / "one.txt").write_text(" ".join(["0", *map(str, shares)]))
    for source in (Coco(coco_file(tmp_path / "p.json", [polygon])), Yolo(tmp_path / "l")):
        wrong = mask_of(source, images) != inside
        assert edge[wrong].max(initial=0) <= 1 and wrong.sum() <= 0.05 * inside.sum()


def test_polygons_beyond_the_picture_are_cut_off_with_a_note(images, tmp_path):
    outside = [40, 20, 90, 20, 90, 70, 40, 70]
    found = only(Coco(coco_file(tmp_path / "p.json", [outside, [1, 2, 3]])), images)
    assert isinstance(found, Found)
    expected = np.zeros_like(TRUTH)
    expected[20:, 40:] = True
    assert (found.mask == expected).all()
    assert "1 polygons reach beyond" in found.note and "1 malformed" in found.note


def test_a_truncated_coco_file_is_one_line(images, tmp_path):
    path = coco_file(tmp_path / "p.json", [SQUARE])
    path.write_text(path.read_text()[:-40])
    with pytest.raises(VitreousError, match=r"p\.json is not valid JSON"):
        Coco(path).items(images)


def test_objects_of_unlisted_pictures_are_told_and_doubtful_names_not_guessed(images, tmp_path):
    (images / "b").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "b" / "one.jpg")
    entry = {"width": WIDTH, "height": HEIGHT}
    listed = [
        {"id": 5, "file_name": "a/one.jpg", **entry},
        {"id": 6, "file_name": "c/one.jpg", **entry},
    ]
    objects = [{"image_id": i, "category_id": 2, "segmentation": [SQUARE]} for i in (5, 6, 7)]
    source = Coco(coco_file(tmp_path / "p.json", [], images=listed, annotations=objects))
    items = source.items(images)
    assert [item.name for item in items] == ["a/one", "b/one", "c/one", "unlisted/7"]
    results = find_masks(source, items)
    assert isinstance(results[0], Found) and "does not list" in str(results[1])
    assert "there is no picture of it" in str(results[2])
    assert "picture 7 it does not list" in str(results[3])


def test_masks_stay_below_their_folder_whatever_path_a_coco_file_gives(tmp_path):
    names = ["/data/one.jpg", "../../two.jpg", "c/../three.jpg"]
    listed = [
        {"id": i, "file_name": n, "width": WIDTH, "height": HEIGHT} for i, n in enumerate(names)
    ]
    source = Coco(coco_file(tmp_path / "p.json", [], images=listed, annotations=[]))
    assert {item.name for item in source.items(None)} == {"data/one", "two", "c/three"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [{"id": 5}]}, "a picture without 'file_name'"),
        ({"annotations": [{"category_id": 2}]}, "an annotation without an 'image_id'"),
        ({"annotations": ["cat"]}, "an annotation without an 'image_id'"),
        ({"annotations": None}, "is not a COCO file"),
    ],
)
def test_what_a_coco_file_lacks_is_one_line(images, tmp_path, changes, words):
    with pytest.raises(VitreousError, match=words):
        Coco(coco_file(tmp_path / "p.json", [SQUARE], **changes)).items(images)


def test_pictures_and_lists_that_differ_lose_nothing(images, tmp_path):
    Image.new("RGB", (8, 8)).save(images / "a" / "two.jpg")
    entry = {"width": WIDTH, "height": HEIGHT}
    listed = [
        {"id": 5, "file_name": "a/one.jpg", **entry},
        {"id": 6, "file_name": "x.jpg", **entry},
    ]
    source = Coco(coco_file(tmp_path / "p.json", [SQUARE], images=listed))
    items = source.items(images)
    assert [item.name for item in items] == ["a/one", "a/two", "x"]
    results = find_masks(source, items)
    assert isinstance(results[0], Found) and "does not list" in str(results[1])
    assert "there is no picture of it" in str(results[2])


def test_masks_and_boxes_without_a_picture_are_told(images, tmp_path):
    folder = write_png(tmp_path / "m", TRUTH.astype(np.uint8) * 255)
    Image.fromarray(TRUTH).save(folder / "more.png")
    table = tmp_path / "boxes.json"
    table.write_text(json.dumps({"a/one.jpg": [20, 10, 49, 29], "more.jpg": [0, 0, 9, 9]}))
    for source in (BinaryFiles(folder), Boxes(table)):
        items = source.items(images)
        assert [item.name for item in items] == ["a/one", "more"]
        first, second = find_masks(source, items)
        assert isinstance(first, Found) and "there is no picture of it" in str(second)


def test_yolo_polygons_boxes_and_the_smallest_area(images, tmp_path):
    (tmp_path / "l" / "a").mkdir(parents=True)
    file = tmp_path / "l" / "a" / "one.txt"
    points = [v / (WIDTH, HEIGHT)[i % 2] for i, v in enumerate(SQUARE)]
    polygon = " ".join(["3", *map(str, points)])
    speck = "1 0 0 0.02 0 0.02 0.02"
    file.write_text(f"{polygon}\n{speck}\n")
    assert (mask_of(Yolo(tmp_path / "l", minimum_area=0.01), images) == TRUTH).all()
    assert (mask_of(Yolo(tmp_path / "l", classes=(3,)), images) == TRUTH).all()
    file.write_text(f"0 {35 / WIDTH} 0.5 0.5 0.5\n")
    assert (mask_of(Yolo(tmp_path / "l"), images) == TRUTH).all()
    file.write_text("0 0.1 0.2 x\n")
    assert "line 1" in str(only(Yolo(tmp_path / "l"), images))


def test_boxes_of_tiny_imagenet_and_pascal_voc(images, tmp_path):
    table = tmp_path / "boxes.json"
    table.write_text(json.dumps({"a/one.jpg": [20, 10, 49, 29]}))
    assert (mask_of(Boxes(table), images) == TRUTH).all()
    xml = tmp_path / "x" / "a"
    xml.mkdir(parents=True)
    (xml / "one.xml").write_text(
        f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        "<object><name>cat</name><bndbox><xmin>21</xmin><ymin>11</ymin><xmax>50</xmax>"
        "<ymax>30</ymax></bndbox></object></annotation>"
    )
    assert (mask_of(Boxes(tmp_path / "x"), images) == TRUTH).all()
    assert not mask_of(Boxes(tmp_path / "x", names=("dog",)), images).any()


def test_a_mask_of_another_size_is_refused_with_both_sizes(images, tmp_path):
    folder = write_png(tmp_path / "m", np.full((10, 10), 255, np.uint8))
    assert "10×10 pixels" in str(only(BinaryFiles(folder), images))


def test_the_second_picture_of_one_mask_is_told_so(images):
    Image.new("RGB", (8, 8)).save(images / "a" / "one.png")
    problems = [item.problem for item in MASK_METHODS["alpha"]().items(images) if item.problem]
    assert len(problems) == 1 and "would share the mask a/one.png" in problems[0]


def test_consensus_is_a_vote_above_each_maps_mean():
    left = torch.zeros(1, 1, 4, 4)
    left[..., :2] = 1
    top = left.mT
    maps = torch.stack([left, left, top])
    assert torch.equal(consensus(maps), left.bool())
    assert torch.equal(consensus(maps, votes=3), left.bool() & top.bool())


def test_relevance_masks_come_from_the_model_itself(images, tmp_path):
    from vitreous.models import load_model, save_model

    model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=32, num_classes=5)
    folder = save_model(model, tmp_path / "model")
    found = only(MASK_METHODS["relevance"](str(folder), image_size=32), images)
    assert isinstance(found, Found) and found.mask.shape == (HEIGHT, WIDTH)


def test_u2netp_finds_a_disc(shared, tmp_path):
    image = Image.new("RGB", (200, 160), (40, 120, 60))
    ImageDraw.Draw(image).ellipse((60, 30, 140, 110), fill=(230, 60, 40))
    (tmp_path / "p").mkdir()
    image.save(tmp_path / "p" / "disc.png")
    mask = mask_of(Onnx(shared / "data" / "weights" / "u2netp.onnx"), tmp_path / "p")
    truth = np.asarray(image)[..., 0] > 128
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8


def test_rembg_finds_what_the_same_file_finds_here(shared, tmp_path, monkeypatch):
    pytest.importorskip("rembg")
    weights = shared / "data" / "weights" / "u2netp.onnx"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "u2netp.onnx").write_bytes(weights.read_bytes())
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "home"))
    image = Image.new("RGB", (200, 160), (40, 120, 60))
    ImageDraw.Draw(image).ellipse((60, 30, 140, 110), fill=(230, 60, 40))
    (tmp_path / "p").mkdir()
    image.save(tmp_path / "p" / "disc.png")
    theirs = mask_of(MASK_METHODS["rembg"](model="u2netp"), tmp_path / "p")
    ours = mask_of(Onnx(weights), tmp_path / "p")
    assert (theirs & ours).sum() / (theirs | ours).sum() > 0.95
