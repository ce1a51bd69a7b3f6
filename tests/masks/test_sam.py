"""SAM from boxes and points, with networks small enough to be built here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitreous.errors import VitreousError
from vitreous.masks import Filters, write_masks
from vitreous.masks.methods.sam import Sam

onnx = pytest.importorskip("onnx")
WIDTH, HEIGHT, SIDE = 80, 40, 16


def save(nodes, inputs, outputs, path: Path) -> Path:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.fixture
def networks(tmp_path: Path) -> dict[str, Path]:
    """The embedding is the picture; a mask is its red channel plus the label sum less 4.5.

    So a box (labels 2 + 3) shows what is red, a point what is redder than anything. The first
    choice is inverted and has the smaller predicted overlap.
    """
    helper = onnx.helper
    encoder = save(
        [helper.make_node("Identity", ["image"], ["embed"])],
        {"image": [1, 3, SIDE, SIDE]},
        {"embed": [1, 3, SIDE, SIDE]},
        tmp_path / "encoder.onnx",
    )
    constant = [
        helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value))
        for name, value in {
            "zero": np.array([0]),
            "one": np.array([1]),
            "axes": np.array([1]),
            "wide": np.array([1, 2, 3]),
            "shift": np.array(5.0, np.float32),
            "overlap": np.array([[0.2, 0.9]], np.float32),
        }.items()
    ]
    nodes = [
        *constant,
        helper.make_node("Slice", ["embed", "zero", "one", "axes"], ["red"]),
        helper.make_node("ReduceSum", ["point_labels", "axes"], ["sum"], keepdims=0),
        helper.make_node("Sub", ["sum", "shift"], ["bias"]),
        helper.make_node("Unsqueeze", ["bias", "wide"], ["biases"]),
        helper.make_node("Add", ["red", "biases"], ["right"]),
        helper.make_node("Neg", ["right"], ["wrong"]),
        helper.make_node("Concat", ["wrong", "right"], ["masks"], axis=1),
        helper.make_node("Unsqueeze", ["bias", "axes"], ["column"]),
        helper.make_node("Mul", ["column", "zero_float"], ["none"]),
        helper.make_node("Add", ["none", "overlap"], ["iou_predictions"]),
    ]
    zero = onnx.numpy_helper.from_array(np.array(0.0, np.float32))
    nodes.insert(0, helper.make_node("Constant", [], ["zero_float"], value=zero))
    decoder = save(
        nodes,
        {
            "embed": [1, 3, SIDE, SIDE],
            "point_coords": ["n", "p", 2],
            "point_labels": ["n", "p"],
            "mask_input": ["n", 1, 4, 4],
            "has_mask_input": [1],
        },
        {"masks": ["n", 2, SIDE, SIDE], "iou_predictions": ["n", 2]},
        tmp_path / "decoder.onnx",
    )
    return {"encoder": encoder, "decoder": decoder}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2, 0] = 255
    for name in ("half", "nothing"):
        Image.fromarray(pixels).save(root / f"{name}.png")
    return root


def masks(method: Sam, images: Path, out: Path) -> dict:
    folder = write_masks(method, images, out, filters=Filters(minimum_pixels=1))
    return {row.name: row for row in folder.rows()}


def test_boxes_become_the_best_predicted_mask_of_the_pictures_size(networks, images, tmp_path):
    table = {"half.png": [[0, 0, 39, 39], [5, 5, 9, 9]]}
    (tmp_path / "boxes.json").write_text(json.dumps(table))
    made = masks(Sam(**networks, boxes=tmp_path / "boxes.json"), images, tmp_path / "out")
    assert made["half"].kept and (made["half"].width, made["half"].height) == (WIDTH, HEIGHT)
    with Image.open(tmp_path / "out" / "half.png") as opened:
        mask = np.asarray(opened) > 0
    assert mask[:, : WIDTH // 2 - 3].all() and not mask[:, WIDTH // 2 + 3 :].any()
    assert "has nothing of" in made["nothing"].dropped


def test_a_mask_ends_where_its_box_ends(networks, images, tmp_path):
    """The network sees all that is red, the left half: of it each box keeps what it holds."""
    method = Sam(**networks, boxes=tmp_path / "none.json")
    coordinates = np.array([[[2.0, 3.0], [10.5, 12.0]], [[30.0, 20.0], [90.0, 39.0]]])
    labels = np.tile([2.0, 3.0], (2, 1))
    with Image.open(images / "half.png") as image:
        mask = method.segment(image, coordinates, labels)
        whole = dataclasses.replace(method, cut=False).segment(image, coordinates, labels)
        at_point = method.segment(image, np.array([[[2.0, 3.0]]]), np.array([[5.0]]))
    assert whole[:, :36].all() and at_point[:, :36].all(), "nothing to cut without a box"
    expected = np.zeros_like(mask)
    expected[3:12, 2:11] = True
    expected[20:39, 30:] = whole[20:39, 30:]
    assert (mask == expected).all() and mask[25, 35] and not mask[25, 60]


def test_small_gaps_are_filled_and_large_ones_stay(networks, images, tmp_path):
    """A gap within the object, one beside the edge of the image, and one too large."""
    pixels = np.zeros((SIDE * 8, SIDE * 8, 3), np.uint8)
    pixels[..., 0] = 255
    for rows, columns in ((24, 40), (40, 80)):
        pixels[rows : rows + 12, columns : columns + 12] = 0
    pixels[:12, :12] = pixels[80:, 40:80] = 0
    method = Sam(**networks, boxes=tmp_path / "none.json")
    side = float(SIDE * 8)
    asked = np.array([[[0, 0], [side, side]]]), np.array([[2.0, 3.0]])
    image = Image.fromarray(pixels)
    bare = dataclasses.replace(method, gap=0.0).segment(image, *asked)
    assert not bare[30, 46] and not bare[3, 3] and not bare[100, 60]
    filled = method.segment(image, *asked)
    assert filled[:70].all() and not filled[100, 60]
    assert (filled[80:] == bare[80:]).all()
    nothing = method.segment(Image.fromarray(pixels * 0), *asked)
    assert not nothing.any()


def test_points_reach_the_decoder_in_pixels_of_the_encoder(networks, images, tmp_path):
    table = {"half.png": [[20, 10], [70, 30, 0]], "nothing.png": "here"}
    (tmp_path / "points.json").write_text(json.dumps(table))
    method = Sam(**networks, points=tmp_path / "points.json")
    item = next(item for item in method.items(images) if item.name == "half")
    coordinates, labels = method._asked(item, (WIDTH, HEIGHT))
    assert coordinates.tolist() == [[[20, 10], [70, 30]]] and labels.tolist() == [[1, 0]]
    made = masks(method, images, tmp_path / "out")
    assert made["half"].dropped == "no foreground" and "expected a list" in made["nothing"].dropped


def test_networks_of_another_make_are_one_line(networks, images, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({"half.png": [0, 0, 9, 9]}))
    swapped = Sam(networks["encoder"], networks["encoder"], boxes=tmp_path / "boxes.json")
    with pytest.raises(VitreousError, match=r"expected .*point_coords"):
        masks(swapped, images, tmp_path / "out")
    with pytest.raises(VitreousError, match="either boxes or points"):
        Sam(networks["encoder"], networks["decoder"])
