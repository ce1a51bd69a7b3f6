"""`vitreous mask` as a user meets it: what comes out, bad input, a killed run, training on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import TINY_MODEL, write_masked_set
from vitreous.cli import main
from vitreous.masks import MaskFolder
from vitreous.masks.methods.alpha import Alpha
from vitreous.models import load_model, save_model

WIDTH, HEIGHT = 100, 80


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Cut-outs in two classes: a large square, a large wide one, a tiny one, none at all."""
    root = tmp_path / "pictures"
    for name, size in {"a/large": 40, "a/tiny": 2, "b/wide.one": 60, "b/nothing": 0}.items():
        image = Image.new("RGBA", (WIDTH, HEIGHT), (0, 90, 0, 0))
        image.paste((200, 0, 0, 255), (20, 10, 20 + size, 10 + size))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / f"{name}.png")
    return root


def rows(out: Path) -> dict[str, dict]:
    lines = (out / "manifest.jsonl").read_text().splitlines()
    return {row["name"]: row for row in map(json.loads, lines)}


def one_line(capsys) -> str:
    """What a command wrote to stderr, which is one line and no traceback."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vitreous:")]
    assert len(lines) == 1
    return lines[0]


def test_the_command_from_pictures_to_manifest(images, tmp_path, capsys):
    out = str(tmp_path / "masks")
    assert main(["mask", str(images), "--out", out, "--method", "alpha"]) == 0
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
def test_mistakes_are_one_line(images, tmp_path, capsys, arguments, words):
    assert main(["mask", str(images), "--out", str(tmp_path / "out"), *arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1] and not any("Traceback" in line for line in lines)


def test_a_run_that_made_nothing_binds_the_folder_to_nothing(images, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["mask", str(images), "--out", out, "--method", "onnx", "--model", "no.onnx"]) == 1
    assert main(["mask", str(images), "--out", out, "--method", "alpha", "--sheet", "0"]) == 0


def test_the_default_model_without_weights_or_network_is_one_line(
    images, tmp_path, capsys, monkeypatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert main(["mask", str(images), "--out", str(tmp_path / "out")]) == 1
    line = one_line(capsys)
    assert "weights of vit_base_patch16_224.dino are not in the local cache" in line
    assert "give a checkpoint file" in line


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("rembg", ["--method", "rembg"], "rembg is not installed: pip install rembg"),
        ("onnxruntime", ["--method", "onnx", "--model", "u.onnx"], "pip install 'vitreous[masks]'"),
        ("pycocotools.mask", ["--method", "coco"], "pip install 'vitreous[masks]'"),
    ],
)
def test_what_is_not_installed_is_named(
    images, tmp_path, capsys, monkeypatch, module, arguments, words
):
    monkeypatch.setitem(sys.modules, module, None)
    if "coco" in arguments:
        arguments = [*arguments, "--annotations", str(coco_file(images, [[0, 0, 9, 0, 9, 9]]))]
    assert main(["mask", str(images), "--out", str(tmp_path / "out"), *arguments]) == 1
    assert words in one_line(capsys)


def test_an_opencv_without_the_guided_filter_is_one_line(images, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(pytest.importorskip("cv2"), "ximgproc", raising=False)
    model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=64, depth=1)
    folder = save_model(model, tmp_path / "model")
    arguments = ["--model", str(folder), "--edges", "guided", "--out", str(tmp_path / "out")]
    assert main(["mask", str(images), *arguments]) == 1
    assert "opencv-contrib-python-headless, or use --edges bilateral" in one_line(capsys)


def test_formats_that_hold_sizes_need_no_pictures_and_settings_stand_anywhere(
    images, tmp_path, capsys
):
    annotations = str(coco_file(images, [[0, 0, 90, 0, 90, 70, 0, 70]]))
    settings = ["--method", "coco", "--annotations", annotations, "--sheet", "0"]
    orders = {
        "none": settings,
        "first": [str(images), *settings],
        "last": [*settings, str(images)],
        "middle": [*settings[2:4], str(images), *settings[:2], *settings[4:]],
        "named": ["--images", str(images), *settings],
        "equals": [f"--annotations={annotations}", str(images), *settings[:2]],
    }
    for name, arguments in orders.items():
        assert main(["mask", *arguments, "--out", str(tmp_path / name)]) == 0
        found = rows(tmp_path / name)
        assert len(found) == 4 and all(row["kept"] for row in found.values())
        assert all(bool(row["image"]) == (name != "none") for row in found.values())
    capsys.readouterr()
    assert main(["mask", "one", "two", *settings]) == 1
    assert "expected one folder of pictures, found one, two" in one_line(capsys)


def test_a_device_that_is_not_there_is_one_line(images, tmp_path, capsys):
    arguments = ["--device", "cuda:97", "--model", "vit_tiny", "--out", str(tmp_path / "out")]
    assert main(["mask", str(images), *arguments]) == 1
    assert "the device 'cuda:97' cannot be used" in one_line(capsys)


BROKEN = {"empty": b"", "text": b"no picture", "short": b""}


@pytest.fixture
def broken(images: Path) -> Path:
    """The same pictures and three that cannot be read: empty, of text, cut short."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    whole = images / "whole.png"
    Image.fromarray(noise).save(whole)
    for name, content in {**BROKEN, "short": whole.read_bytes()[:9000]}.items():
        (images / "a" / f"{name}.png").write_bytes(content)
    whole.unlink()
    return images


@pytest.mark.parametrize("method", ["alpha", "png", "coco", "onnx", "tokencut"])
def test_unreadable_pictures_get_a_row_each_and_the_others_their_masks(
    broken, tmp_path, capsys, request, method
):
    out, settings = tmp_path / "out", []
    if method == "png":
        for path in broken.rglob("*.png"):
            target = tmp_path / "masks" / path.relative_to(broken)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (WIDTH, HEIGHT), 255).save(target)
        settings = ["--masks", str(tmp_path / "masks")]
    elif method == "coco":
        path = coco_file(broken, [[0, 0, 90, 0, 90, 70, 0, 70]])
        settings = ["--annotations", str(path)]
    elif method == "onnx":
        shared = request.getfixturevalue("shared")
        settings = ["--model", str(shared / "data" / "weights" / "u2netp.onnx")]
    elif method == "tokencut":
        model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=64, depth=1)
        settings = ["--model", str(save_model(model, tmp_path / "model")), "--tau", "0.99"]
    arguments = ["--method", method, "--out", str(out), "--sheet", "0", *settings]
    main(["mask", str(broken), *arguments])
    found = rows(out)
    assert len(found) == 7
    for name in BROKEN:
        row = found[f"a/{name}"]
        assert not row["kept"] and not row["mask"] and f"{name}.png" in row["dropped"]
        assert "\n" not in row["dropped"]
    assert all(row["mask"] for name, row in found.items() if Path(name).name not in BROKEN)
    printed = capsys.readouterr().out
    assert all(f"{name}.png" in printed for name in BROKEN)


def coco_file(images: Path, polygons: list[list[float]]) -> Path:
    """A COCO file with the same polygons for each picture."""
    names = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    size = {"width": WIDTH, "height": HEIGHT}
    content = {
        "images": [{"id": i, "file_name": name, **size} for i, name in enumerate(names)],
        "annotations": [
            {"image_id": i, "category_id": 1, "segmentation": polygons} for i in range(len(names))
        ],
    }
    path = images.parent / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_polygons_beyond_the_picture_are_noted_in_its_row(images, tmp_path, capsys):
    inside, beyond = [10, 10, 50, 10, 50, 50, 10, 50], [60, 0, 300, 0, 300, 40, 60, 40]
    annotations = str(coco_file(images, [inside, beyond]))
    out = tmp_path / "out"
    arguments = ["--method", "coco", "--annotations", annotations, "--out", str(out)]
    assert main(["mask", str(images), *arguments]) == 0
    assert "4 with a note" in capsys.readouterr().out
    row = rows(out)["a/large"]
    assert row["note"] == "1 polygons reach beyond the picture and were cut off" and row["kept"]
    assert row["area"] == pytest.approx((40 * 40 + 40 * 40) / (WIDTH * HEIGHT))


def test_a_truncated_coco_file_is_one_line_and_leaves_no_manifest(images, tmp_path, capsys):
    annotations = coco_file(images, [[0, 0, 9, 0, 9, 9]])
    annotations.write_text(annotations.read_text()[:-30])
    out = tmp_path / "out"
    arguments = ["--method", "coco", "--annotations", str(annotations), "--out", str(out)]
    assert main(["mask", str(images), *arguments]) == 1
    assert "instances.json is not valid JSON" in one_line(capsys)
    assert not (out / "manifest.jsonl").exists()


def test_masks_of_another_size_and_missing_ones_get_a_row_each(images, tmp_path, capsys):
    masks = tmp_path / "masks" / "a"
    masks.mkdir(parents=True)
    Image.new("L", (WIDTH, HEIGHT), 255).save(masks / "large.png")
    Image.new("L", (50, 40), 255).save(masks / "tiny.png")
    out = tmp_path / "out"
    arguments = ["--method", "png", "--masks", str(masks.parent), "--out", str(out)]
    assert main(["mask", str(images), *arguments]) == 0
    found = rows(out)
    assert len(found) == 4 and found["a/large"]["kept"]
    assert "is 50×40 pixels" in found["a/tiny"]["dropped"]
    assert f"is {WIDTH}×{HEIGHT}" in found["a/tiny"]["dropped"]
    assert "no mask at" in found["b/nothing"]["dropped"]
    assert "they must be of one size" in capsys.readouterr().out


def test_a_run_that_keeps_nothing_says_where_the_reasons_are(images, tmp_path, capsys):
    masks = tmp_path / "masks" / "a"
    masks.mkdir(parents=True)
    Image.new("L", (WIDTH, HEIGHT), 0).save(masks / "large.png")
    out = tmp_path / "out"
    arguments = ["--method", "png", "--masks", str(masks.parent), "--out", str(out)]
    assert main(["mask", str(images), *arguments]) == 1
    assert "no mask was kept" in one_line(capsys)
    row = rows(out)["a/large"]
    assert row["dropped"] == "no foreground" and (out / row["mask"]).is_file()


KILLED = """
import os, signal, sys
from vitreous.cli import main
flush, calls = os.fsync, []
def deadly(file):
    calls.append(file)
    if len(calls) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return flush(file)
os.fsync = deadly
main(sys.argv[1:])
"""


def test_killed_and_run_again_it_ends_with_the_folder_of_an_uninterrupted_run(
    images, tmp_path, monkeypatch
):
    for index in range(8):
        Image.new("RGBA", (40, 40), (9, 9, 9, 255)).save(images / "a" / f"more{index}.png")
    arguments = ["mask", str(images), "--method", "alpha", "--batch-size", "3", "--out"]
    out, whole = tmp_path / "masks", tmp_path / "whole"
    # Killed while a mask of the third batch is half-written.
    process = [sys.executable, "-c", KILLED, *arguments, str(out)]
    killed = subprocess.run(process, check=False, capture_output=True, cwd=os.getcwd())
    before = {row.name for row in MaskFolder(out).rows()}
    assert killed.returncode == -signal.SIGKILL and len(before) == 6
    assert [p for p in out.rglob(".*") if p.is_file()]
    with (out / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"name": "a/half')
    seen: list[str] = []
    find = Alpha.find

    def record(self: Alpha, items):
        seen.extend(item.name for item in items)
        return find(self, items)

    monkeypatch.setattr(Alpha, "find", record)
    assert main([*arguments, str(out)]) == 0
    assert not before & set(seen) and len(before) + len(seen) == 12
    assert main([*arguments, str(whole)]) == 0
    assert contents(out) == contents(whole)


def contents(folder: Path) -> dict[str, bytes]:
    """All files, with the folder's own name taken out."""
    own = str(folder.resolve()).encode()
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().replace(own, b"OUT")
        for path in files
    }


@pytest.mark.parametrize("form", ["folder", "kept.csv"])
def test_training_from_the_command_line_on_what_was_written(tmp_path, capsys, form):
    write_masked_set(tmp_path, classes=2, per_class=4)
    images, out, run = (str(tmp_path / name) for name in ("images", "found", "run"))
    made = ["mask", images, "--out", out, "--method", "png", "--masks", str(tmp_path / "masks")]
    assert main(made) == 0
    data = (
        ["--data.images", images, "--data.masks", out]
        if form == "folder"
        else ["--data.images", f"{out}/kept.csv"]
    )
    small = [f"--model.options.{key}={value}" for key, value in TINY_MODEL["options"].items()]
    arguments = [
        *("train", "robust_vit/vit_base", "--data.name", "folders", *data),
        *("--data.validation_share", "0.25", "--model.name", TINY_MODEL["name"]),
        *("--model.pretrained", "false", "--model.image_size", "32", "--model.num_classes", "2"),
        *small,
        *("--transforms.train.resize.size", "36", "--transforms.train.random_crop.size", "32"),
        *(
            "--transforms.validation.resize.size",
            "36",
            "--transforms.validation.center_crop.size",
            "32",
        ),
        *("--training.epochs", "1", "--training.trackers", "[]", "--out", run),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "relevance/foreground_share" in printed
    sample = np.asarray(Image.open(Path(run) / "samples" / "0_mask.png").convert("L"))
    assert 0 < (sample > 127).mean() < 0.5 and (Path(run) / "model.safetensors").is_file()
