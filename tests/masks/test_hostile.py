"""One bad row never ends a run, and nothing that is no mask passes for one."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.errors import CheckpointError, VitreousError
from vitreous.masks import Filters, MaskError, write_masks
from vitreous.masks.base import MaskMethod
from vitreous.masks.lengths import decode_lengths
from vitreous.masks.manifest import ManifestRow
from vitreous.masks.methods.alpha import Alpha
from vitreous.masks.methods.arrays import Arrays
from vitreous.masks.methods.boxes import Boxes
from vitreous.masks.methods.coco import Coco
from vitreous.masks.methods.png import BinaryFiles
from vitreous.masks.methods.relevance import Relevance
from vitreous.masks.methods.saliency import Onnx
from vitreous.masks.methods.tokencut import TokenCut
from vitreous.models import load_model, save_model

WIDTH, HEIGHT = 40, 30


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name in ("bad", "good"):
        Image.fromarray(noise).save(root / f"{name}.jpg")
    return root


def rows(method: MaskMethod, images: Path | None, out: Path) -> dict[str, ManifestRow]:
    folder = write_masks(method, images, out, filters=Filters(minimum_pixels=1))
    return {row.name: row for row in folder.rows()}


COUNTS: dict[str, Any] = {
    "empty": "",
    "no_counts": [],
    "short": "1",
    "negative": [-5, WIDTH * HEIGHT + 5],
    "too_many": [0, WIDTH * HEIGHT + 1],
    "floats": [0.5, WIDTH * HEIGHT - 0.5],
    "booleans": [True, WIDTH * HEIGHT - 1],
    "texts": ["1", "2"],
    "huge": [2**70],
    "number": 7,
    "nothing": None,
    "foreign": "ä≈\x00",
    "endless": "o" * 100,
    "unfinished": "P",
}


def coco(images: Path, segmentation: Any, entry: dict[str, Any] | None = None) -> Coco:
    size = {"width": WIDTH, "height": HEIGHT}
    good = [[0, 0, 20, 0, 20, 20, 0, 20]]
    content = {
        "images": [
            {"id": 0, "file_name": "bad.jpg", **size, **(entry or {})},
            {"id": 1, "file_name": "good.jpg", **size},
        ],
        "annotations": [
            {"image_id": 0, "segmentation": segmentation},
            {"image_id": 1, "segmentation": good},
        ],
    }
    (images.parent / "coco.json").write_text(json.dumps(content))
    return Coco(images.parent / "coco.json")


@pytest.mark.parametrize("kind", COUNTS)
def test_run_lengths_that_do_not_cover_the_picture_are_told_in_their_row(images, tmp_path, kind):
    pytest.importorskip("pycocotools")
    segmentation = {"size": [HEIGHT, WIDTH], "counts": COUNTS[kind]}
    found = rows(coco(images, segmentation), images, tmp_path / "out")
    assert not found["bad"].mask and found["bad"].dropped and found["good"].kept


SEGMENTATIONS: dict[str, Any] = {
    "size": {"size": "large", "counts": [0]},
    "no_size": {"counts": [0]},
    "number": 3,
    "text": "polygon",
    "nothing": None,
    "polygon_of_texts": [["a"] * 6],
    "flat_polygon": [1, 2, 3],
}
ENTRIES: dict[str, dict[str, Any]] = {
    "no_width": {"width": None},
    "negative": {"width": -3},
    "vast": {"width": 10**9, "height": 10**9},
    "infinite": {"width": 1e400},
}


@pytest.mark.parametrize("kind", [*SEGMENTATIONS, *ENTRIES])
def test_coco_entries_of_wrong_types_are_told_in_their_row(images, tmp_path, kind):
    pytest.importorskip("pycocotools")
    segmentation = SEGMENTATIONS.get(kind, [[0, 0, 20, 0, 20, 20, 0, 20]])
    method = coco(images, segmentation, ENTRIES.get(kind))
    for folder, at in ((images, "with"), (None, "without")):
        found = rows(method, folder, tmp_path / at)
        assert not found["bad"].mask and found["bad"].dropped and found["good"].kept


def test_run_lengths_decode_as_the_published_code_does():
    tools = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(3)
    for share in (0.0, 0.02, 0.5, 1.0):
        for width, height in ((1, 1), (7, 5), (200, 333)):
            mask = random.random((height, width)) < share
            encoded = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
            assert np.array_equal(decode_lengths(encoded["counts"], (width, height)), mask)
            text = encoded["counts"].decode()
            assert np.array_equal(decode_lengths(text, (width, height)), mask)
    with pytest.raises(MaskError, match="covers 0 of 12 pixels"):
        decode_lengths("", (4, 3))


BOXES: dict[str, Any] = {
    "nan": [[float("nan"), 0, 5, 5]],
    "infinite": [0, 0, float("inf"), 5],
    "number": 5,
    "text": "all",
    "nothing": None,
    "empty": [],
    "three": [1, 2, 3],
    "nested": [[[1, 2, 3, 4]]],
    "texts": ["a", "b", "c", "d"],
    "mixed": [[1, 2, 3, 4], 5],
}


@pytest.mark.parametrize("kind", BOXES)
def test_boxes_that_are_none_are_told_in_their_row(images, tmp_path, kind):
    table = {"bad.jpg": BOXES[kind], "good.jpg": [2, 2, 20, 20]}
    (tmp_path / "boxes.json").write_text(json.dumps(table))
    found = rows(Boxes(tmp_path / "boxes.json"), images, tmp_path / "out")
    assert not found["bad"].mask and "boxes.json" in found["bad"].dropped and found["good"].kept


def test_boxes_come_as_csv_and_coco_too(images, tmp_path):
    box = {"bad.jpg": [[2, 3, 10, 12], [20, 20, 25, 25]], "good.jpg": [[2, 2, 20, 20]]}
    (tmp_path / "b.json").write_text(json.dumps(box))
    lines = [",".join(map(str, [name, *row])) for name, some in box.items() for row in some]
    (tmp_path / "b.csv").write_text("\ufeffpath,xmin,ymin,xmax,ymax\n" + "\n".join(lines) + "\n")
    annotations = [
        {"image_id": i, "category_id": 1, "bbox": [x0, y0, x1 - x0 + 1, y1 - y0 + 1]}
        for i, some in enumerate(box.values())
        for x0, y0, x1, y1 in some
    ]
    annotations.append({"image_id": 0, "category_id": 2, "bbox": [0, 0, WIDTH, HEIGHT]})
    content = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(box)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "bird"}, {"id": 2, "name": "sky"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    methods = {
        "json": Boxes(tmp_path / "b.json"),
        "csv": Boxes(tmp_path / "b.csv"),
        "coco": Boxes(tmp_path / "c.json", names=("bird",)),
    }
    areas = {}
    for name, method in methods.items():
        made = rows(method, images, tmp_path / name)
        areas[name] = [made[n].area for n in ("bad", "good")]
    wanted = [(9 * 10 + 36) / (WIDTH * HEIGHT), 361 / (WIDTH * HEIGHT)]
    assert all(found == pytest.approx(wanted, abs=1e-4) for found in areas.values())


def huge_array(path: Path) -> None:
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    head += b" " * (118 - len(head) - 1) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64))


def sparse_array(path: Path) -> None:
    with path.open("wb") as file:
        head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (40000, 40000), }"
        head += b" " * (118 - len(head) - 1) + b"\n"
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head)
        file.truncate(128 + 40000 * 40000)


def text_array(path: Path) -> None:
    np.save(path, np.array([["a"]]))


def nan_array(path: Path) -> None:
    np.save(path, np.full((HEIGHT, WIDTH), np.nan))


@pytest.mark.parametrize("write", [huge_array, sparse_array, text_array, nan_array])
def test_arrays_that_are_none_are_told_in_their_row(images, tmp_path, write):
    masks = tmp_path / "masks"
    masks.mkdir()
    write(masks / "bad.npy")
    np.save(masks / "good.npy", np.ones((HEIGHT, WIDTH)))
    found = rows(Arrays(masks), images, tmp_path / "out")
    assert not found["bad"].mask and found["bad"].dropped and found["good"].kept


def bomb(path: Path) -> None:
    """A PNG of 400 megapixels in half a megabyte."""
    size = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    written = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + written)


def photo(path: Path) -> None:
    gradient = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) * 3 + 20
    noise = np.random.default_rng(0).integers(-9, 9, (HEIGHT, WIDTH))
    Image.fromarray((gradient + noise).clip(0, 255).astype(np.uint8)).save(path)


def photo_of_256_colors(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).quantize(256).save(path)


def nan_tiff(path: Path) -> None:
    values = np.full((HEIGHT, WIDTH), 1.0, np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(path, "TIFF")


@pytest.mark.parametrize("write", [bomb, photo, photo_of_256_colors, nan_tiff])
def test_files_that_are_no_masks_are_told_in_their_row(images, tmp_path, write):
    masks = tmp_path / "masks"
    masks.mkdir()
    write(masks / "bad.png")
    Image.new("L", (WIDTH, HEIGHT), 255).save(masks / "good.png")
    found = rows(BinaryFiles(masks), images, tmp_path / "out")
    assert not found["bad"].mask and "bad.png" in found["bad"].dropped and found["good"].kept


def soft(path: Path) -> None:
    """A matte with edges of many greys."""
    ramp = np.clip((np.arange(WIDTH) - 12) * 25, 0, 255).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp, (HEIGHT, WIDTH)).copy()).save(path)


def colored(path: Path) -> None:
    """Class colours of half brightness, as Pascal VOC's, as RGB."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[5:25, 5:30] = (128, 0, 192)
    Image.fromarray(pixels).save(path)


def jpeg(path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:25, 5:30] = 255
    Image.fromarray(mask).save(path, "JPEG", quality=75)


def many_parts(path: Path) -> None:
    """A palette of 100 numbered parts."""
    indices = (np.arange(HEIGHT)[:, None] // 3 * 10 + np.arange(WIDTH) // 4).astype(np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(list(np.random.default_rng(0).integers(0, 255, 768)))
    image.save(path)


@pytest.mark.parametrize("write", [soft, colored, jpeg, many_parts])
def test_masks_of_every_kind_are_masks(images, tmp_path, write: Callable[[Path], None]):
    masks = tmp_path / "masks"
    masks.mkdir()
    write(masks / "good.png")
    assert rows(BinaryFiles(masks), images, tmp_path / "out")["good"].kept


def test_a_picture_of_nan_is_unreadable_and_not_black(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    nan_tiff(root / "bad.tif")
    Image.new("RGBA", (WIDTH, HEIGHT), (9, 9, 9, 255)).save(root / "good.png")
    (tmp_path / "b.json").write_text(json.dumps({"bad.tif": [0, 0, 9, 9]}))
    model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=32, depth=1)
    folder = save_model(model, tmp_path / "model")
    found = rows(TokenCut(str(folder)), root, tmp_path / "out")
    assert "not finite" in found["bad"].dropped and "not finite" not in found["good"].dropped


@pytest.mark.parametrize("kind", [TokenCut, Relevance])
def test_a_model_of_nan_makes_no_mask(images, tmp_path, kind):
    model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=32, depth=1)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.fill_(torch.nan)
    folder = save_model(model, tmp_path / "model")
    with pytest.raises(CheckpointError, match="20 of 20 weights are not finite"):
        rows(kind(str(folder)), images, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.png"))


def test_two_pictures_of_one_name_get_one_mask_and_one_word(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for name in ("a.png", "a.webp", "b.png"):
        Image.new("RGBA", (WIDTH, HEIGHT), (9, 9, 9, 255)).save(root / name, lossless=True)
    found = rows(Alpha(), root, tmp_path / "out")
    assert found["a"].kept and found["b"].kept
    assert "would share the mask a.png" in found["a.webp"].dropped


def test_a_classifier_is_no_saliency_network(images, tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("images", kind, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", kind, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "classifier.onnx")
    with pytest.raises(VitreousError, match="it is no saliency network") as caught:
        write_masks(Onnx(tmp_path / "classifier.onnx"), images, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_polygon_without_end_takes_no_memory_and_is_told(images, tmp_path):
    far = [[1, 1, 1e9, 1, 1e9, 1e9]]
    row = rows(coco(images, [*far, [0, 0, 20, 0, 20, 20, 0, 20]]), images, tmp_path / "out")["bad"]
    assert row.kept and row.note.startswith("1 malformed polygons left out")


@pytest.mark.parametrize(
    ("segmentation", "entry", "words"),
    [
        ([["1", "2", "3", "4", "5", "6"]], {}, "bad.jpg: expected polygons of numbers, found 1"),
        ([[1, 2, 3, None, 5, 6]], {}, "expected polygons of numbers, found None"),
        ([[1, 2, 3, 10**400, 5, 6]], {}, "expected polygons of numbers, found 1000"),
        ([1, 2, 3, 4, 5, 6], {}, "expected polygons of numbers, found 1"),
        (None, {}, "expected polygons or run lengths of an object, found none"),
        ("abc", {}, "expected polygons or run lengths of an object, found abc"),
        ({"counts": [1]}, {}, "the size of a run-length mask is None, expected two"),
        ({"counts": None, "size": [30, 40]}, {}, "the lengths of a run-length mask are None"),
        ([], {"width": None}, "bad.jpg: its width is None, expected a whole number of 1 or more"),
        ([], {"height": "x"}, "bad.jpg: its height is x, expected a whole number"),
        ([], {"height": float("nan")}, "bad.jpg: its height is nan, expected a whole number"),
        ([], {"id": [0]}, "bad.jpg: its id is [0], expected a number or a text"),
    ],
)
def test_what_is_wrong_in_a_coco_file_is_told_in_own_words(
    images, tmp_path, segmentation, entry, words
):
    row = rows(coco(images, segmentation, entry), images, tmp_path / "out")["bad"]
    assert words in row.dropped and not row.kept
    assert "Error" not in row.dropped
