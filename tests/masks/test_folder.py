"""Quality, filters, the folder of masks, the contact sheet and the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import tiny_vit
from vitreous.data.mask_files import read_mask
from vitreous.data.readers import READERS
from vitreous.errors import VitreousError
from vitreous.io import read_json
from vitreous.masks import Filters, measure, write_masks, write_sheet
from vitreous.masks.folder import _remember
from vitreous.masks.manifest import ManifestRow, MaskFolder
from vitreous.masks.methods.alpha import Alpha
from vitreous.masks.methods.png import BinaryFiles
from vitreous.masks.methods.relevance import Relevance
from vitreous.masks.methods.saliency import Onnx
from vitreous.masks.methods.sam import Sam
from vitreous.models import save_model


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Cut-outs in two classes: a large square, a large wide one, a tiny one, none at all."""
    root = tmp_path / "pictures"
    sizes = {"a/large": 40, "a/tiny": 2, "b/wide.one": 60, "b/nothing": 0}
    for name, size in sizes.items():
        image = Image.new("RGBA", (100, 80), (0, 90, 0, 0))
        image.paste((200, 0, 0, 255), (20, 10, 20 + size, 10 + size))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / f"{name}.png")
    return root


def test_quality_of_known_shapes():
    mask = np.zeros((224, 224), bool)
    mask[:20, :26] = True
    quality = measure(mask, mask[::-1])
    assert quality.pixels == pytest.approx(520) and quality.components == 1
    assert quality.border == pytest.approx((26 + 19) / (4 * 223)) and quality.agreement == 0
    mask[100:120, 100:126] = True
    two = measure(mask)
    assert two.components == 2 and two.largest == 0.5 and two.agreement is None


def test_the_papers_filter_keeps_520_pixels_and_drops_519():
    mask = np.zeros((224, 224), bool)
    mask.ravel()[:520] = True
    assert Filters().reason(measure(mask)) == ""
    mask.ravel()[519] = False
    assert "519 foreground pixels" in Filters().reason(measure(mask))


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (Filters(maximum_area=0.3), "covers 50%"),
        (Filters(maximum_border=0.3), "of the border"),
        (Filters(maximum_components=0), "separate parts"),
        (Filters(minimum_agreement=0.5), "agrees with the second method to 0.00"),
    ],
)
def test_each_filter_says_why(filters, words):
    half = np.arange(400).reshape(20, 20) < 200
    assert words in filters.reason(measure(half, ~half))


def test_what_is_written_trains_and_nothing_is_lost(images, tmp_path):
    folder = write_masks(Alpha(), images, tmp_path / "masks")
    rows = {row.name: row for row in folder.rows()}
    assert set(rows) == {"a/large", "a/tiny", "b/wide.one", "b/nothing"}
    assert [rows[n].kept for n in ("a/large", "b/wide.one")] == [True, True]
    assert "foreground pixels" in rows["a/tiny"].dropped
    assert rows["b/nothing"].dropped == "no foreground"
    assert read_mask(folder.file(rows["a/tiny"])).sum() == 4
    values = np.asarray(Image.open(folder.path / "a" / "large.png"))
    assert values.dtype == np.uint8 and set(np.unique(values)) == {0, 255}
    by_folder = READERS["folders"](
        str(images), str(folder.path), require_masks=False, validation_share=0.0
    )
    found = by_folder.load(0).train
    masks = {Path(found.name(i)).stem: found[i].mask for i in range(len(found))}
    assert masks["large"].sum() == 1600 and masks["wide.one"].sum() == 3600
    assert masks["tiny"] is None and masks["nothing"] is None
    (passed,) = found.left_out
    assert passed.names == ("a/tiny.png", "b/nothing.png"), "dropped masks are no stray ones"
    by_list = READERS["folders"](str(folder.path / "kept.csv"), validation_share=0.0).load(0)
    assert len(by_list.train) == 2 and by_list.class_names == ["a", "b"]


def test_other_settings_do_not_mix_and_restart_deletes_only_its_own(images, tmp_path):
    out = tmp_path / "masks"
    write_masks(Alpha(), images, out)
    (out / "mine.txt").write_text("kept")
    with pytest.raises(VitreousError, match="made with another source"):
        write_masks(Alpha(threshold=0.9), images, out)
    folder = write_masks(
        Alpha(threshold=0.9), images, out, filters=Filters(minimum_pixels=12000), restart=True
    )
    assert [row.name for row in folder.kept()] == ["b/wide.one"]
    assert not (out / "a" / "large.png").exists() and (out / "mine.txt").read_text() == "kept"


def test_agreement_with_a_second_method_is_an_intersection_over_union(images, tmp_path):
    second = tmp_path / "second"
    (second / "a").mkdir(parents=True)
    half = np.zeros((80, 100), np.uint8)
    half[10:50, 20:40] = 255
    Image.fromarray(half).save(second / "a" / "large.png")
    folder = write_masks(Alpha(), images, tmp_path / "out", second=BinaryFiles(second))
    rows = {row.name: row for row in folder.rows()}
    assert rows["a/large"].agreement == pytest.approx(0.5)
    assert "the second method has no mask" in rows["b/wide.one"].dropped


def test_the_sheet_shows_the_worst_first(images, tmp_path):
    (images / "b" / "broken.png").write_bytes(b"no picture")
    folder = write_masks(Alpha(), images, tmp_path / "masks")
    image, page = write_sheet(folder)
    text = page.read_text()
    assert text.index("<b>a/tiny") < text.index("<b>a/large")
    assert "Without a mask" in text and "b/broken" in text
    assert "src=" not in text.replace('src="data:', "")
    with Image.open(image) as sheet:
        assert sheet.width > 160


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Filters().minimum_pixels = 0


def test_other_weights_under_the_same_name_are_another_model(images, tmp_path):
    """The second save changes no setting of the method; what is done is not gone on with."""
    place, out = tmp_path / "model", tmp_path / "masks"
    save_model(tiny_vit(seed=0), place)
    write_masks(Relevance(str(place), methods=("rollout",)), images, out)
    write_masks(Relevance(str(place), methods=("rollout",), device="cpu"), images, out)
    save_model(tiny_vit(seed=1), place)
    other = Relevance(str(place), methods=("rollout",))
    with pytest.raises(VitreousError, match="made with another model"):
        write_masks(other, images, out)
    for method, second in ((other, None), (Alpha(), other)):
        assert write_masks(method, images, out, second=second, restart=True).rows()
    save_model(tiny_vit(seed=2), place)
    again = Relevance(str(place), methods=("rollout",))
    with pytest.raises(VitreousError, match="made with another model"):
        write_masks(Alpha(), images, out, second=again)
    note = out / "_quality" / "settings.json"
    older = {key: value for key, value in read_json(note).items() if key != "model"}
    note.write_text(json.dumps(older), encoding="utf-8")
    assert write_masks(Alpha(), images, out, second=again).rows()


def test_another_file_of_a_networks_name_is_another_model(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    files = {"onnx": Onnx(file), "sam": Sam(file, file, points=tmp_path / "points.json")}
    for name, method in files.items():
        folder = MaskFolder(tmp_path / name)
        file.write_bytes(b"first")
        _remember(folder, method, None, Filters())
        folder.append([ManifestRow("a", "", "a.png", "", name, kept=True)])
        file.write_bytes(b"other")
        with pytest.raises(VitreousError, match="made with another model"):
            _remember(folder, method, None, Filters())


def test_where_a_method_computes_is_no_other_setting(tmp_path: Path) -> None:
    """Masks of before the default was `auto`, or made on another device, are gone on with."""
    folder, onnx = MaskFolder(tmp_path), Onnx(tmp_path / "net.onnx", device="cpu")
    _remember(folder, onnx, None, Filters())
    folder.append([ManifestRow("a", "", "a.png", "", "onnx", kept=True)])
    _remember(folder, dataclasses.replace(onnx, device="auto"), None, Filters())
    with pytest.raises(VitreousError, match="made with another source"):
        _remember(folder, dataclasses.replace(onnx, threshold=0.7), None, Filters())
