"""Nothing is left out of a test set without being named and counted, and nothing mixed up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import write_masked_set, write_squares
from vitreous.cli import main
from vitreous.errors import VitreousError
from vitreous.evaluation.evaluators.explanation import ExplanationSettings, measure_explanations
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.suites import OWN_PREDICTION, MaskedSettings
from vitreous.evaluation.test_sets import read_set
from vitreous.evaluation.test_sets.base import describe_folder
from vitreous.models import Classifier, load_model, save_model
from vitreous.results import Results

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def left_out(dataset) -> dict[str, tuple[str, ...]]:
    return {entry.what: entry.names for entry in dataset.left_out}


@pytest.fixture
def tiny() -> Classifier:
    torch.manual_seed(1)
    return load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=2, image_size=32, **TINY
    )


@pytest.mark.parametrize("name", ["imagenet-sketch", "imagenet-val", "imagenet-c"])
def test_folders_that_are_no_class_are_named(name: str, tmp_path: Path) -> None:
    root = tmp_path / "fog" / "1" if name == "imagenet-c" else tmp_path
    for folder in ("n01440764", "n01443537", "n99999999", "tench"):
        image(root / folder / "a.jpg")
    (root / "n01440764" / "list.txt").write_text("x")
    image(root / "stray.png")
    image(root / "n01443537" / "more" / "b.jpg")
    settings = {"severities": (1,)} if name == "imagenet-c" else {}
    (found,) = read_set(name, tmp_path, **settings)
    assert len(found) == 2
    assert left_out(found.dataset) == {
        "folders that are no class of this set": ("n99999999", "tench"),
        "folders inside those of classes": ("n01443537/more",),
        "images in these folders": ("n99999999/a.jpg", "tench/a.jpg", "n01443537/more/b.jpg"),
        "images in no class folder": ("stray.png",),
        "files that are no images": ("n01440764/list.txt",),
    }


def test_what_a_folder_holds_is_said_without_what_was_not_counted(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    image(tmp_path / "x/1.png")
    assert describe_folder(tmp_path) == "1 folder (x)", "its image is in the folder"
    (tmp_path / "y").mkdir()
    image(tmp_path / "2.png")
    assert describe_folder(tmp_path) == "2 folders (x, y) with 1 images beside them"
    assert describe_folder(tmp_path / "x") == "no folder and 1 images"
    assert describe_folder(tmp_path / "y") == "an empty folder"


def test_labels_without_an_image_are_named(tmp_path: Path) -> None:
    image(tmp_path / "val" / "x.png")
    (tmp_path / "val.txt").write_text("x.png 3\ny.png 4\nz.png 4\n")
    (found,) = read_set("imagenet-val", tmp_path / "val")
    assert found.targets.tolist() == [3]
    assert left_out(found.dataset) == {"labels without an image": ("y", "z")}


def test_a_file_of_labels_that_is_not_as_it_should_be_is_told(tmp_path: Path) -> None:
    image(tmp_path / "val" / "x.png")
    labels = tmp_path / "val.txt"
    for content, message in [
        (b"x.png 3\n\ny.png\n", r"val.txt: row 3 has no class"),
        ("x.png 3\n".encode("utf-16"), r"val.txt is UTF-16"),
        (b"\xe9.png 3\n", r"val.txt is not UTF-8"),
    ]:
        labels.write_bytes(content)
        with pytest.raises(VitreousError, match=message):
            read_set("imagenet-val", tmp_path / "val")
    labels.write_bytes(b"\xef\xbb\xbfx.png 3\n")
    assert read_set("imagenet-val", tmp_path / "val")[0].targets.tolist() == [3]


def test_tiny_imagenets_files_are_checked(tmp_path: Path) -> None:
    image(tmp_path / "val" / "images" / "a.png")
    (tmp_path / "val" / "val_annotations.txt").write_text("a.png\tn2\t0\t0\n")
    (tmp_path / "wnids.txt").write_text("n1\nn3\n")
    with pytest.raises(VitreousError, match=r"wnids.txt does not list n2"):
        read_set("tiny-imagenet", tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_text("a.png\n")
    with pytest.raises(VitreousError, match="row 1 has no class"):
        read_set("tiny-imagenet", tmp_path)


def test_what_the_protocols_leave_out_is_named(tmp_path: Path) -> None:
    for name in ("air_freshener", "backpack"):
        image(tmp_path / "objectnet" / name / "a.png")
    (found,) = read_set("objectnet", tmp_path / "objectnet")
    assert left_out(found.dataset) == {
        "folders that map to no class of ImageNet": ("air_freshener",),
        "images in these folders": ("air_freshener/a.png",),
    }
    for texture in ("bear1", "airplane2"):
        image(tmp_path / "conflict" / "airplane" / f"airplane1-{texture}.png")
    (found,) = read_set("cue-conflict", tmp_path / "conflict")
    assert len(found) == 1
    (names,) = left_out(found.dataset).values()
    assert names == ("airplane/airplane1-airplane2.png",)


def test_images_that_no_factor_is_told_of_are_not_scored(tmp_path: Path) -> None:
    for name in ("zebra/a.jpg", "zebra/b.jpg", "ambulance/c.jpg"):
        image(tmp_path / name)
    listed = "path,rotation\nzebra/b.jpg,21\nzebra/a.jpg,1\nzebra/d.jpg,1\n"
    (tmp_path / "factors.csv").write_text(listed)
    (found,) = read_set("si-score-rotation", tmp_path)
    assert found.factors["rotation"].tolist() == ["1", "21"]
    assert [found.dataset.name(i) for i in range(2)] == ["zebra/a.jpg", "zebra/b.jpg"]
    assert left_out(found.dataset) == {
        "images that factors.csv does not list": ("ambulance/c.jpg",),
        "rows of factors.csv without an image": ("zebra/d.jpg",),
    }
    (tmp_path / "factors.csv").write_text("path,rotation\nx.jpg,1\n")
    with pytest.raises(VitreousError, match="lists none of the 3 pictures"):
        read_set("si-score-rotation", tmp_path)
    (tmp_path / "factors.csv").write_text("path,rotation\nx.jpg\n")
    with pytest.raises(VitreousError, match="row 2 has 1 fields"):
        read_set("si-score-rotation", tmp_path)


def test_deleted_masks_are_named(tiny: Classifier, tmp_path: Path) -> None:
    write_squares(tmp_path, 10)
    for name in ("c0/2.png", "c1/5.png"):
        (tmp_path / "masks" / name).unlink()
    wanted = MaskedSettings("squares", tmp_path / "images", tmp_path / "masks")
    dataset = wanted.read(tmp_path / "images", ("c0", "c1"))
    (names,) = left_out(dataset).values()
    assert names == ("c0/2.png", "c1/5.png")
    explained = measure_explanations(
        tiny,
        dataset,
        "s",
        tmp_path / "rows",
        explaining=ExplanationSettings(removal=False),
        streaming=StreamSettings(progress=False),
    )
    assert sorted(explained.measured.reasons.values()) == [
        "c0/2.png has no mask",
        "c1/5.png has no mask",
    ]


def test_the_command_names_and_counts_what_is_left_out(
    tiny: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_squares(tmp_path, 4)
    for name in ("list.txt", "more.txt"):
        (tmp_path / "images" / "c0" / name).write_text("x")
    arguments = ["evaluate", str(save_model(tiny, tmp_path / "model")), "--samples", "0"]
    arguments += ["--data", str(tmp_path / "images"), "--workers", "0"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "left out" in line]
    told = "2 files that are no images (c0/list.txt, c0/more.txt)"
    assert lines == [f"left out of images: {told}"]
    entry = Results.read(tmp_path / "out").extra["evaluation"]["images"]
    assert entry["left_out"] == [told]


def test_removal_is_scored_by_the_class_map(tmp_path: Path) -> None:
    write_squares(tmp_path, 6)
    table = tmp_path / "map.json"
    table.write_text(json.dumps({"c0": "second", "c1": [0, 1]}))
    images, masks = tmp_path / "images", tmp_path / "masks"
    names = ("first", "second")
    mapped = MaskedSettings("s", images, masks, class_map=table).read(images, names)
    assert mapped.labels.tolist() == [1, 1, 1, 0, 0, 0] and mapped[5].mask is not None
    assert left_out(mapped) == {}
    # Without it nothing tells which class is right, where some folders are classes and some not.
    plain = MaskedSettings("s", images, masks).read(images, ("c0", "other", "more"))
    assert plain.labels.tolist() == [0, 0, 0, -1, -1, -1]
    assert left_out(plain) == {OWN_PREDICTION: ("c1",)}
    table.write_text(json.dumps({"c0": 1}))
    with pytest.raises(VitreousError, match="has no entry for 'c1'"):
        MaskedSettings("s", images, masks, class_map=table).read(images, names)


def test_the_command_takes_the_class_map_for_removal(tiny: Classifier, tmp_path: Path) -> None:
    write_squares(tmp_path, 4)
    model = save_model(tiny, tmp_path / "model")
    hits = {}
    for name, table in {"a": {"c0": 0, "c1": 1}, "b": {"c0": 1, "c1": 0}}.items():
        (tmp_path / "map.json").write_text(json.dumps(table))
        arguments = ["evaluate", str(model), "--data", str(tmp_path / "images"), "--class-map"]
        arguments += [str(tmp_path / "map.json"), "--masks", str(tmp_path / "masks"), "--samples"]
        assert main([*arguments, "0", "--workers", "0", "--out", str(tmp_path / name)]) == 0
        results = Results.read(tmp_path / name / "results.json")
        curves = results.extra["evaluation"]["images"]["explanations"]["gradient_attention"]
        hits[name] = curves["positive"][0]
    # Two classes: what is right under one map is wrong under the other.
    assert hits["a"] + hits["b"] == pytest.approx(1.0)


def test_the_table_that_masking_writes_is_evaluated_with_its_masks(tmp_path: Path) -> None:
    write_masked_set(tmp_path, classes=2, per_class=3)
    masked = ["mask", str(tmp_path / "images"), "--out", str(tmp_path / "found")]
    assert main([*masked, "--method", "png", "--masks", str(tmp_path / "masks")]) == 0
    kept = tmp_path / "found" / "kept.csv"
    (found,) = read_set("folder", kept, class_names=("class_0", "class_1"), num_classes=2)
    assert len(found) == 6 and found.targets.tolist() == [0, 0, 0, 1, 1, 1]
    truth = np.asarray(Image.open(tmp_path / "masks" / "class_1" / "2.png")) > 127
    assert np.array_equal(found.dataset[5].mask[0].numpy() > 0.5, truth)
    dataset = MaskedSettings("kept", kept).read(kept, ("class_0", "class_1"))
    assert all(dataset.masks.has(i) for i in range(6))


def test_names_that_are_not_utf8_reach_the_results(tiny: Classifier, tmp_path: Path) -> None:
    write_squares(tmp_path, 4)
    root = os.fsencode(tmp_path / "images")
    os.rename(root + b"/c0/0.png", root + b"/c0/\xe9.png")
    with open(root + b"/c1/\xff.png", "wb") as file:
        file.write(b"no image")
    model = save_model(tiny, tmp_path / "model")
    arguments = ["evaluate", str(model), "--data", str(tmp_path / "images"), "--workers", "0"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    entry = Results.read(tmp_path / "out" / "results.json").extra["evaluation"]["images"]
    (bad,) = entry["unreadable"]["files"]
    assert bad["file"] == r"c1/\xff.png"
    shown = {sample["file"] for kind in ("best", "worst") for sample in entry[kind]}
    assert r"c0/\xe9.png" in shown


@pytest.mark.parametrize("masks", [0, 1])
def test_photographs_for_masks_are_told_as_what_they_are(
    tiny: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str], masks: int
) -> None:
    """All of them, before anything is measured; one of several, as one image that was left out."""
    for name in ("0", "1"):
        pixels = np.random.default_rng(int(name)).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        for kind in ("images", "masks"):
            path = tmp_path / kind / f"c{name}" / "0.png"
            path.parent.mkdir(parents=True)
            if kind == "masks" and int(name) < masks:
                Image.fromarray(pixels[..., 0] // 128 * 255).save(path)
            else:
                Image.fromarray(pixels).save(path)
    model = save_model(tiny, tmp_path / "model")
    given = ["--data", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    out = tmp_path / "out"
    arguments = ["evaluate", str(model), *given, "--no-removal", "--workers", "0"]
    assert main([*arguments, "--out", str(out)]) == 1 - masks
    told, error = capsys.readouterr()
    if masks:
        assert "foreground_share" in told and (out / "results.json").is_file()
        return
    assert "none of the first 2 masks is one (first: " in error and error.count("\n") == 1
    assert "0.png looks like a photograph, expected a mask of black and white)" in error
    assert not out.exists()
