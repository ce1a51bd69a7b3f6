"""`vitreous explain` and the command line as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitreous
from helpers import tiny_vit, write_noise
from vitreous.attribution import METHODS
from vitreous.cli import COMMANDS, main
from vitreous.commands import explanation_files
from vitreous.data.images import load_image


@pytest.fixture
def model(tmp_path: Path) -> str:
    classifier = tiny_vit(class_names=["ant", "bee", "cat", "dog", "eel", "fox"])
    return str(vitreous.save_model(classifier, tmp_path / "model"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_noise(tmp_path / "pictures", 3, (50, 40))


def test_explain_writes_what_the_library_computes(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["explain", str(images), "--model", model, "--out", str(out)]
    assert main([*arguments, "--method", "gradient_attention", "rollout"]) == 0
    classifier = vitreous.load_model(model)
    image = load_image(images / "1.png", classifier.preprocessing)[None]
    with np.load(out / "maps.npz") as maps:
        assert len(maps.files) == 6
        expected = vitreous.relevance(classifier, image, method="rollout")[0, 0]
        assert np.allclose(maps["1/rollout"], expected.numpy(), atol=1e-6)
    rows = json.loads((out / "explanations.json").read_text())["pictures"]
    top = rows[1]["models"][0]["top"]
    probabilities = classifier(image).softmax(1)[0].detach()
    assert [t["class"] for t in top] == probabilities.topk(5).indices.tolist()
    assert top[0]["probability"] == pytest.approx(float(probabilities.max()), abs=1e-6)
    assert (out / "1.png").stat().st_size > 1000
    text = capsys.readouterr().out
    assert top[0]["name"] in text and str(out) in text


def test_two_models_side_by_side(model, images, tmp_path):
    out = tmp_path / "out"
    image = str(images / "0.png")
    options = ["--model", model, "--compare", model, "--method", "all", "--out", str(out)]
    assert main(["explain", image, *options]) == 0
    with np.load(out / "maps.npz") as maps:
        assert len(maps.files) == 2 * (len(list(METHODS)) - 1)  # all but occlusion
        assert np.array_equal(maps["0/0/grad_cam"], maps["0/1/grad_cam"])


@pytest.mark.parametrize(
    ("given", "target", "against"), [("cat", 2, None), ("4", 4, None), ("cat - fox", 2, 5)]
)
def test_targets_by_name_number_and_difference(
    model, images, tmp_path, given, target, against, monkeypatch, capsys
):
    drawn: list[str] = []
    monkeypatch.setattr(
        explanation_files,
        "panel",
        lambda rows, *_: drawn.extend(caption for row in rows for caption, _ in row),
    )
    out, image = tmp_path / "out", images / "0.png"
    arguments = ["explain", str(image), "--model", model, "--out", str(out)]
    assert main([*arguments, "--target", given]) == 0
    classifier = vitreous.load_model(model)
    fed = load_image(image, classifier.preprocessing)[None]
    expected = vitreous.relevance(classifier, fed, target, against=against)[0, 0]
    with np.load(out / "maps.npz") as maps:
        assert np.allclose(maps["0/gradient_attention"], expected, atol=1e-6)
    (answer,) = json.loads((out / "explanations.json").read_text())["pictures"][0]["models"]
    assert (answer["target"], answer.get("against")) == (target, against)
    assert drawn[1:] == ["gradient attention" + ("\ncat - fox" if against else "")]
    assert "1 picture explained:" in capsys.readouterr().out


def test_each_of_the_top_classes(model, images, tmp_path, monkeypatch):
    drawn: list[str] = []
    monkeypatch.setattr(
        explanation_files,
        "panel",
        lambda rows, *_: drawn.extend(caption for row in rows for caption, _ in row),
    )
    out, image = tmp_path / "out", images / "0.png"
    arguments = ["explain", str(image), "--model", model, "--out", str(out)]
    assert main([*arguments, "--target", "top3"]) == 0
    classifier = vitreous.load_model(model)
    fed = load_image(image, classifier.preprocessing)[None]
    best = classifier(fed)[0].topk(3).indices.tolist()
    with np.load(out / "maps.npz") as maps:
        assert maps.files == [f"0/gradient_attention/{number}" for number in best]
        expected = vitreous.relevance(classifier, fed, best[2])[0, 0]
        assert np.allclose(maps[maps.files[2]], expected, atol=1e-6)
    names = [classifier.class_name(number) for number in best]
    assert drawn[1:] == [f"gradient attention\n{name}" for name in names]


def test_bad_pictures_are_named_counted_and_skipped_only_on_request(
    model, images, tmp_path, capsys
):
    (images / "bad.jpg").write_text("not a picture")
    arguments = ["explain", str(images), "--model", model, "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "bad.jpg is not a picture" in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "maps.npz").exists()
    assert main([*arguments, "--skip-unreadable"]) == 0
    assert "3 pictures explained, 1 skipped" in capsys.readouterr().out


def test_overview_and_every_command_have_help_with_an_example(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        shown = capsys.readouterr().out
        assert f"vitreous {name}" in shown and "Example" in shown, name


def test_mistakes_end_with_one_line_and_status_one():
    run = [sys.executable, "-m", "vitreous.cli"]
    found = subprocess.run([*run, "explan", "x"], capture_output=True, text=True)
    assert found.returncode == 1 and found.stdout == ""
    assert found.stderr == "vitreous: unknown command 'explan'; did you mean 'explain'?\n"


@pytest.mark.parametrize(
    "mode, value, expected",
    [
        ("L", 128, (128, 128, 128)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 256 * 128, (128, 128, 128)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_pictures_of_every_mode_become_rgb(tmp_path, mode, value, expected):
    path = tmp_path / ("x.tif" if mode in ("CMYK", "I;16") else "x.png")
    Image.new(mode, (4, 3), value).save(path)
    image = load_image(path)
    assert image.shape == (3, 3, 4)
    assert torch.allclose(image[:, 0, 0] * 255, torch.tensor(expected).float(), atol=1)


def test_rotation_in_exif_is_applied(tmp_path):
    image = Image.new("RGB", (4, 2), (255, 0, 0))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90° to show
    image.save(tmp_path / "x.jpg", exif=exif)
    assert load_image(tmp_path / "x.jpg").shape == (3, 4, 2)
