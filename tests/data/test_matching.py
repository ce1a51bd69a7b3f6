"""The one rule of which name is of which picture, against a slow one that tries all pairs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitreous.data.matching import match_names
from vitreous.masks import MASK_METHODS, MaskError, MaskMethod
from vitreous.masks.base import MaskItem, find_masks


@pytest.mark.parametrize(
    ("pictures", "listed", "expected"),
    [
        (["ape/0.jpg", "bee/0.jpg"], ["ape/0.png", "bee/0.png"], [0, 1]),
        (["ape/0.jpg", "bee/0.jpg"], ["bee/0.png"], [None, 0]),
        (["ape/0.jpg"], ["../outside/0.png"], [None]),
        (["ape/0.jpg", "bee/1.jpg"], ["0.png", "1.png"], [0, 1]),
        (["ape/0.jpg"], ["/data/train/ape/0.jpg"], [0]),
        (["0.jpg"], ["train/ape/0.jpg"], [0]),
        (["ape/0.jpg", "bee/0.jpg"], ["0.png"], [None, None]),
        (["0.jpg"], ["ape/0.png", "bee/0.png"], [None]),
        (["0.jpg", "ape/0.jpg"], ["0.png"], [0, None]),
        (["ape/0.jpg"], ["0.png", "ape/0.png"], [1]),
        (["ape/0.jpg"], ["0.png", "x/ape/0.png"], [1]),
        (["ape/0.jpg"], ["xape/0.png", "e/0.png"], [None]),
        (["a.b.jpg"], ["a.png", "a.b.png"], [1]),
        (["ape/0.jpg"], ["", ".", "/"], [None]),
    ],
)
def test_names_fit_by_their_ends(pictures, listed, expected):
    assert list(match_names(pictures, listed).places) == expected


def test_whole_paths_and_suffixes_decide_where_names_do_not():
    listed = ["ape/0.png", "bee/0.png"]
    assert match_names(["0.png"], listed, paths=["/photos/bee/0.png"]).places == (1,)
    assert match_names(["0.jpg"], ["0.jpg", "0.png"]).places == (None,)
    assert match_names(["0.jpg"], ["0.jpg", "0.png"], suffixes=True).places == (0,)


def test_a_name_in_doubt_is_not_lost_and_others_are():
    found = match_names(["ape/0.jpg", "bee/0.jpg"], ["0.png", "cat/0.png", "cat/1.png"])
    assert found.lost == (1, 2)
    assert all("fits ape/0.jpg and bee/0.jpg" in problem for problem in found.problems)


def test_no_name_goes_to_a_picture_of_another_folder_and_none_to_two():
    draw = random.Random(0)

    def path() -> str:
        parts = [draw.choice("ab") for _ in range(draw.randint(0, 2))]
        return "/".join([*parts, draw.choice("xy")])

    taken = 0
    for _ in range(2000):
        pictures = sorted({path() for _ in range(draw.randint(1, 5))})
        listed = sorted({path() for _ in range(draw.randint(1, 5))})
        found = match_names(pictures, listed)
        for picture, place in zip(pictures, found.places, strict=True):
            if picture in listed:
                assert place == listed.index(picture)
            fitting = [n for n in listed if f"/{n}".endswith(f"/{picture}")]
            fitting += [n for n in listed if f"/{picture}".endswith(f"/{n}") and n not in fitting]
            assert place is None or listed[place] in fitting
            alone = [p for p in pictures if f"/{p}".endswith(f"/{fitting[0]}")] if fitting else []
            if len(fitting) == 1 and alone == [picture]:
                assert place is not None
        used = [place for place in found.places if place is not None]
        assert len(used) == len(set(used))
        taken += len(used)
    assert taken > 2000


def source(kind: str, folder: Path, names: list[str]) -> MaskMethod:
    """A source of the kind that lists a mask of 40 × 40 pixels under each of some names."""
    square = [[4, 4, 30, 4, 30, 30, 4, 30]]
    images = [{"id": i, "file_name": n, "width": 40, "height": 40} for i, n in enumerate(names)]
    objects = [
        {"image_id": i, "segmentation": square, "bbox": [4, 4, 26, 26]} for i in range(len(names))
    ]
    xml = "<a><object><bndbox>{}</bndbox></object></a>".format(
        "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), (4, 4, 30, 30)))
    )
    folder.mkdir()
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind == "png":
            Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(file.with_suffix(".png"))
        elif kind == "numpy":
            np.save(file.with_suffix(".npy"), np.eye(40, dtype=bool))
        elif kind == "yolo":
            file.with_suffix(".txt").write_text("0 0.5 0.5 0.8 0.8")
        elif kind == "xml":
            file.with_suffix(".xml").write_text(xml)
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": objects}))
    (folder / "boxes.json").write_text(json.dumps({name: [4, 4, 30, 30] for name in names}))
    options = {
        "png": ("png", {"masks": folder}),
        "numpy": ("numpy", {"masks": folder}),
        "yolo": ("yolo", {"labels": folder}),
        "xml": ("boxes", {"boxes": folder}),
        "coco": ("coco", {"annotations": folder / "coco.json"}),
        "boxes": ("boxes", {"boxes": folder / "boxes.json"}),
        "boxes of coco": ("boxes", {"boxes": folder / "coco.json"}),
    }
    method, settings = options[kind]
    return MASK_METHODS[method](**settings)


@pytest.mark.parametrize("kind", ["png", "numpy", "yolo", "xml", "coco", "boxes", "boxes of coco"])
def test_every_source_goes_by_the_rule(tmp_path: Path, kind: str) -> None:
    images = tmp_path / "images"
    for name in ("ape/0.png", "bee/0.png", "bee/1.png", "cat/2.png", "dog/2.png"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(images / name)
    names = ["bee/0.png", "1.png", "2.png", "../out/ape/0.png"][: 3 if kind != "coco" else 4]
    made = source(kind, tmp_path / "listed", names)
    items: list[MaskItem] = made.items(images)
    found = dict(zip((item.name for item in items), find_masks(made, items), strict=True))
    taken = ["bee/0", "bee/1"] + ["ape/0"] * (kind == "coco")
    assert [name for name, mask in found.items() if not isinstance(mask, MaskError)] == sorted(
        taken
    )
    assert "fits cat/2.png and dog/2.png" in str(found["cat/2"])
    assert "fits cat/2.png and dog/2.png" in str(found["dog/2"])


@pytest.mark.parametrize("kind", ["coco", "boxes of coco"])
def test_objects_of_two_pictures_with_one_id_are_of_neither(tmp_path: Path, kind: str) -> None:
    images = tmp_path / "images"
    for name in ("ape/0.png", "bee/0.png", "bee/1.png"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(images / name)
    made = source(kind, tmp_path / "listed", ["ape/0.png", "bee/0.png", "bee/1.png"])
    file = tmp_path / "listed" / "coco.json"
    content = json.loads(file.read_text())
    content["images"][1]["id"] = content["images"][0]["id"]
    file.write_text(json.dumps(content))
    items = made.items(images)
    found = dict(zip((item.name for item in items), find_masks(made, items), strict=True))
    for name in ("ape/0", "bee/0"):
        assert "ape/0.png and bee/0.png have one id, 0" in str(found[name])
