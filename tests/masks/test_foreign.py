"""Manifests and masks of others: nothing outside is touched, nothing made by hand is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vitreous.cli import main
from vitreous.errors import VitreousError
from vitreous.masks import MaskFolder, write_masks
from vitreous.masks.methods.alpha import Alpha


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for index in range(3):
        image = Image.new("RGBA", (60, 60), (0, 90, 0, 0))
        image.paste((200, 0, 0, 255), (10, 10, 50, 50 - index))
        image.save(root / f"{index}.png")
    return root


@pytest.mark.parametrize("form", ["up", "absolute", "link", "itself", "none"])
def test_restart_deletes_nothing_that_a_manifest_names_outside(images, tmp_path, capsys, form):
    out, victim = tmp_path / "a" / "b" / "masks", tmp_path / "victim.txt"
    victim.write_text("precious")
    arguments = ["mask", str(images), "--method", "alpha", "--out", str(out), "--sheet", "0"]
    assert main(arguments) == 0
    again = [*arguments, "--restart"]
    if form == "link":
        (out / "link").symlink_to(tmp_path)
        assert main(again) == 1 and victim.read_text() == "precious"
        again += ["--overwrite"]  # which takes links, but not what a listing names
    named = {
        "up": "../../../victim.txt",
        "absolute": str(victim),
        "link": "link/victim.txt",
        "itself": ".",
        "none": "\0",
    }
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    rows[1]["mask"] = named[form]
    rows[1].pop("digest", None)  # as before masks were signed
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    assert main(again) == 1
    assert victim.read_text() == "precious"
    # Refused before anything is deleted.
    assert all((out / f"{index}.png").is_file() for index in (0, 2))
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the listing is refused" in line and "Traceback" not in line


def test_restart_leaves_what_a_manifest_names_that_is_no_mask(images, tmp_path):
    folder = write_masks(Alpha(), images, tmp_path / "masks")
    photo = np.random.default_rng(0).integers(0, 255, (60, 60), dtype=np.uint8)
    Image.fromarray(photo).save(folder.path / "photo.png")
    (folder.path / "mine.txt").write_text("kept")
    lines = (folder.path / "manifest.jsonl").read_text().splitlines()
    for line, name in zip(lines[:2], ("photo.png", "mine.txt")):
        changed = {**json.loads(line), "name": name, "mask": name}
        changed.pop("digest", None)  # as before masks were signed
        lines.append(json.dumps(changed))
    (folder.path / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    write_masks(Alpha(), images, folder.path, restart=True)
    assert (folder.path / "mine.txt").read_text() == "kept"
    assert np.array_equal(np.asarray(Image.open(folder.path / "photo.png")), photo)


@pytest.mark.parametrize("keeps_texts", [False, True])
def test_masks_made_by_hand_are_never_written_over_or_deleted(images, tmp_path, keeps_texts):
    out = tmp_path / "masks"
    folder = write_masks(Alpha(), images, out)
    about = PngInfo()
    with Image.open(out / "0.png") as opened:
        edited = np.array(opened)
        for key, text in opened.info.items():
            about.add_text(key, text)
    edited[:5] = 255
    Image.fromarray(edited).save(out / "0.png", pnginfo=about if keeps_texts else None)
    again = write_masks(Alpha(threshold=0.9), images, out, restart=True)
    rows = {row.name: row for row in again.rows()}
    assert np.array_equal(np.asarray(Image.open(out / "0.png")), edited)
    assert not rows["0"].mask and "was left as it is" in rows["0"].dropped
    assert rows["1"].kept and rows["2"].kept and len(folder.rows()) == 3


def test_a_foreign_folder_keeps_its_masks_with_overwrite_too(images, tmp_path):
    out = tmp_path / "by_hand"
    out.mkdir()
    Image.new("L", (60, 60), 255).save(out / "1.png")
    before = (out / "1.png").read_bytes()
    with pytest.raises(VitreousError, match="--overwrite"):
        write_masks(Alpha(), images, out)
    rows = {row.name: row for row in write_masks(Alpha(), images, out, overwrite=True).rows()}
    assert (out / "1.png").read_bytes() == before
    assert [rows[name].kept for name in "012"] == [True, False, True]


def test_masks_are_not_written_among_the_pictures(images):
    with pytest.raises(VitreousError, match="lies in the folder of pictures"):
        write_masks(Alpha(), images, images / "masks")
    assert len(list(images.iterdir())) == 3


@pytest.mark.parametrize(
    "row",
    [
        {"name": 3},
        {"mask": None},
        {"kept": "yes"},
        {"area": "large"},
        {"agreement": []},
        {"extra": 1},
        {"image": ["a"]},
    ],
)
def test_rows_of_wrong_types_are_one_line(images, tmp_path, row):
    folder = write_masks(Alpha(), images, tmp_path / "masks")
    line = json.loads((folder.path / "manifest.jsonl").read_text().splitlines()[0])
    (folder.path / "manifest.jsonl").write_text(json.dumps({**line, **row}) + "\n")
    with pytest.raises(VitreousError, match="line 1 is not a row"):
        MaskFolder(folder.path).rows()


def test_pictures_replaced_since_get_a_new_mask_and_those_gone_are_told(images, tmp_path, caplog):
    out = tmp_path / "masks"
    write_masks(Alpha(), images, out)
    kept = (out / "2.png").read_bytes()
    Image.new("RGBA", (60, 60), (9, 9, 9, 255)).save(images / "0.png")
    (images / "1.png").unlink()
    Image.new("RGBA", (60, 60), (9, 9, 9, 255)).save(images / "new.png")
    rows = {row.name: row for row in write_masks(Alpha(), images, out).rows()}
    assert rows["0"].area == 1.0 and rows["new"].area == 1.0
    assert (out / "2.png").read_bytes() == kept
    assert "1 pictures or sources were replaced" in caplog.text
    assert "1 masks are of pictures that are no longer there (first: 1)" in caplog.text
    fresh = {row.name: row for row in write_masks(Alpha(), images, tmp_path / "fresh").rows()}
    assert {name: rows[name] for name in fresh} == fresh
    assert len((out / "manifest.jsonl").read_text().splitlines()) == len(rows) == 4


def test_a_picture_that_is_repaired_gets_its_mask(images, tmp_path):
    whole = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(whole[:40])
    out = tmp_path / "masks"
    assert not {row.name: row for row in write_masks(Alpha(), images, out).rows()}["1"].mask
    (images / "1.png").write_bytes(whole)
    assert {row.name: row for row in write_masks(Alpha(), images, out).rows()}["1"].kept
