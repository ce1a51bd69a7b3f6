"""Quality, filters, the folder of masks, the contact sheet and the command."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitreous.cli import main
from vitreous.data.mask_files import read_mask
from vitreous.data.sources import SOURCES as DATA_SOURCES
from vitreous.errors import VitreousError
from vitreous.masks import Filters, MaskFolder, measure, write_masks, write_sheet
from vitreous.masks.sources.alpha import Alpha
from vitreous.masks.sources.png import BinaryFiles


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
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


def test_what_is_written_trains_and_nothing_is_lost(pictures, tmp_path):
    folder = write_masks(Alpha(), pictures, tmp_path / "masks")
    rows = {row.name: row for row in folder.rows()}
    assert set(rows) == {"a/large", "a/tiny", "b/wide.one", "b/nothing"}
    assert [rows[n].kept for n in ("a/large", "b/wide.one")] == [True, True]
    assert "foreground pixels" in rows["a/tiny"].dropped
    assert rows["b/nothing"].dropped == "no foreground"
    assert read_mask(folder.file(rows["a/tiny"])).sum() == 4
    values = np.asarray(Image.open(folder.path / "a" / "large.png"))
    assert values.dtype == np.uint8 and set(np.unique(values)) == {0, 255}
    by_folder = DATA_SOURCES["folders"](
        str(pictures), str(folder.path), require_masks=False, validation_share=0.0
    )
    found = by_folder.load(0).train
    masks = {Path(found.name(i)).stem: found.read(i)[1] for i in range(len(found))}
    assert masks["large"].sum() == 1600 and masks["wide.one"].sum() == 3600
    assert masks["tiny"] is None and masks["nothing"] is None
    by_list = DATA_SOURCES["folders"](str(folder.path / "kept.csv"), validation_share=0.0).load(0)
    assert len(by_list.train) == 2 and by_list.class_names == ["a", "b"]


def test_other_settings_do_not_mix_and_restart_deletes_only_its_own(pictures, tmp_path):
    out = tmp_path / "masks"
    write_masks(Alpha(), pictures, out)
    (out / "mine.txt").write_text("kept")
    with pytest.raises(VitreousError, match="made with another source"):
        write_masks(Alpha(threshold=0.9), pictures, out)
    folder = write_masks(
        Alpha(threshold=0.9), pictures, out, filters=Filters(minimum_pixels=12000), restart=True
    )
    assert [row.name for row in folder.kept()] == ["b/wide.one"]
    assert not (out / "a" / "large.png").exists() and (out / "mine.txt").read_text() == "kept"


def test_agreement_with_a_second_method_is_an_intersection_over_union(pictures, tmp_path):
    second = tmp_path / "second"
    (second / "a").mkdir(parents=True)
    half = np.zeros((80, 100), np.uint8)
    half[10:50, 20:40] = 255
    Image.fromarray(half).save(second / "a" / "large.png")
    folder = write_masks(Alpha(), pictures, tmp_path / "out", second=BinaryFiles(second))
    rows = {row.name: row for row in folder.rows()}
    assert rows["a/large"].agreement == pytest.approx(0.5)
    assert "the second method has no mask" in rows["b/wide.one"].dropped


KILLED = """
import os, signal, sys
from pathlib import Path
from vitreous.masks.sources.alpha import Alpha
from vitreous.masks import write_masks
find, calls = Alpha.find, []
def deadly(self, items):
    calls.append(items)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return find(self, items)
Alpha.find = deadly
write_masks(Alpha(), Path(sys.argv[1]), Path(sys.argv[2]), batch_size=1)
"""


def test_killed_and_run_again_it_goes_on_where_it_was(pictures, tmp_path, monkeypatch):
    for index in range(8):
        Image.new("RGBA", (40, 40), (9, 9, 9, 255)).save(pictures / "a" / f"more{index}.png")
    out = tmp_path / "masks"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(pictures), str(out)], check=False)
    folder = MaskFolder(out)
    before = {row.name for row in folder.rows()}
    assert killed.returncode == -signal.SIGKILL and len(before) == 5
    with folder.manifest.open("a") as manifest:
        manifest.write('{"name": "a/half')
    seen: list[str] = []
    find = Alpha.find

    def record(self: Alpha, items: Sequence) -> list:
        seen.extend(item.name for item in items)
        return find(self, items)

    monkeypatch.setattr(Alpha, "find", record)
    write_masks(Alpha(), pictures, out)
    assert not before & set(seen) and len(before) + len(seen) == 12
    lines = [json.loads(line)["name"] for line in folder.manifest.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 12
    assert not [p for p in out.rglob(".*") if p.is_file()]


def test_the_sheet_shows_the_worst_first(pictures, tmp_path):
    (pictures / "b" / "broken.png").write_bytes(b"no picture")
    folder = write_masks(Alpha(), pictures, tmp_path / "masks")
    picture, page = write_sheet(folder)
    text = page.read_text()
    assert text.index("<b>a/tiny") < text.index("<b>a/large")
    assert "Without a mask" in text and "b/broken" in text
    assert "src=" not in text.replace('src="data:', "")
    with Image.open(picture) as sheet:
        assert sheet.width > 160


def test_the_command_from_pictures_to_manifest(pictures, tmp_path, capsys):
    out = str(tmp_path / "masks")
    assert main(["mask", str(pictures), "--out", out, "--method", "alpha"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 4 masks kept" in printed and "sheet.html" in printed
    rows = [json.loads(line) for line in (Path(out) / "manifest.jsonl").read_text().splitlines()]
    assert {"source", "method", "area", "quality", "dropped"} <= set(rows[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "tokncut"], "did you mean 'tokencut'"),
        (["--method", "alpha", "--treshold", "0.5"], "did you mean 'threshold'"),
        (["--method", "coco"], "missing key 'annotations'"),
        (["--method", "onnx", "--model", "none.onnx"], "no ONNX model at none.onnx"),
        (["--method", "tokencut", "--edges", "soft"], "unknown edges 'soft'"),
        (["--method", "alpha", "--agree.model", "x"], "name it: --agree-with"),
    ],
)
def test_mistakes_are_one_line(pictures, tmp_path, capsys, arguments, words):
    assert main(["mask", str(pictures), "--out", str(tmp_path / "out"), *arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1] and not any("Traceback" in line for line in lines)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Filters().minimum_pixels = 0  # ty: ignore[invalid-assignment]
