"""`vitreous explain` for many images: batches, resuming, and what is drawn of the maps."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import vitreous
from helpers import tiny_vit, write_noise
from vitreous.attribution.draw import overlay
from vitreous.cli import main
from vitreous.commands.explanation_files import file_keys
from vitreous.data.images import load_image, to_uint8
from vitreous.evaluation.evaluators import maps as evaluator


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(vitreous.save_model(tiny_vit(seed=3), tmp_path / "model"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_noise(tmp_path / "pictures", 5, (40, 40))


@pytest.fixture
def explained(monkeypatch) -> list[int]:
    """Numbers of the images of each call of `explain`."""
    counts: list[int] = []
    real = evaluator.explain

    def counted(classifier, images, *arguments, **options):
        counts.append(len(images))
        return real(classifier, images, *arguments, **options)

    monkeypatch.setattr(evaluator, "explain", counted)
    return counts


def run(images: Path, model: str, out: Path, *more: str) -> int:
    options = ["--model", model, "--out", str(out), "--device", "cpu", "--quiet"]
    return main(["explain", str(images), *options, *more])


def read_maps(out: Path) -> dict[str, np.ndarray]:
    with np.load(out / "maps.npz") as maps:
        return {name: maps[name] for name in maps.files}


def test_batches_give_the_maps_of_single_images(model, images, tmp_path, explained):
    assert run(images, model, tmp_path / "a", "--batch-size", "4") == 0
    assert explained == [4, 1]
    assert run(images, model, tmp_path / "b", "--batch-size", "1") == 0
    together, alone = read_maps(tmp_path / "a"), read_maps(tmp_path / "b")
    assert together.keys() == alone.keys() and len(alone) == 5
    for name, values in together.items():
        assert np.allclose(values, alone[name], atol=1e-5)


def test_maps_in_another_precision_are_made_anew(model, images, tmp_path, explained):
    assert run(images, model, tmp_path / "a") == 0
    exact = read_maps(tmp_path / "a")
    assert run(images, model, tmp_path / "a", "--precision", "bfloat16") == 0
    assert explained == [5, 5]
    classifier, rounded = vitreous.load_model(model), read_maps(tmp_path / "a")
    for name, values in rounded.items():
        picture = load_image(images / f"{name.split('/')[0]}.png", classifier.preprocessing)
        with torch.autocast("cpu", torch.bfloat16):
            expected = vitreous.relevance(classifier, picture[None])[0, 0]
        assert not np.array_equal(values, exact[name])
        np.testing.assert_allclose(values, expected.float(), atol=0.1)
        np.testing.assert_allclose(values, exact[name], atol=0.25)
    assert run(images, model, tmp_path / "a") == 0 and explained == [5, 5]
    for name, values in read_maps(tmp_path / "a").items():
        np.testing.assert_array_equal(values, exact[name])


def test_a_killed_run_goes_on_where_it_was(model, images, tmp_path, monkeypatch, explained):
    whole = tmp_path / "whole"
    assert run(images, model, whole, "--batch-size", "1") == 0
    kept, out = evaluator.Maps._keep, tmp_path / "out"

    def killed(self, index, values):
        if index == 3:
            raise RuntimeError("killed")
        kept(self, index, values)

    with monkeypatch.context() as context, pytest.raises(RuntimeError, match="killed"):
        context.setattr(evaluator.Maps, "_keep", killed)
        run(images, model, out, "--batch-size", "1")
    explained.clear()
    assert run(images, model, out, "--batch-size", "1") == 0
    assert explained == [1, 1]
    first, second = read_maps(whole), read_maps(out)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_only_new_changed_and_lost_maps_are_made(model, images, tmp_path, explained):
    out = tmp_path / "out"
    assert run(images, model, out) == 0
    explained.clear()
    assert run(images, model, out) == 0
    assert explained == []
    Image.new("RGB", (40, 40), (9, 99, 200)).save(images / "1.png")
    Image.new("RGB", (40, 40), (200, 9, 9)).save(images / "new.png")
    next((out / "rows").glob("maps-*/*.npy")).unlink()
    assert run(images, model, out) == 0
    assert sum(explained) in (2, 3)  # the lost map may be that of the image that changed
    classifier = vitreous.load_model(model)
    fed = load_image(images / "1.png", classifier.preprocessing)[None]
    expected = vitreous.relevance(classifier, fed)[0, 0]
    assert np.allclose(read_maps(out)["1/gradient_attention"], expected, atol=1e-4)
    explained.clear()
    assert run(images, model, out, "--restart") == 0
    assert sum(explained) == 6


def test_maps_are_saved_in_the_forms_that_were_asked_for(model, images, tmp_path):
    out = tmp_path / "out"
    forms = ("--save", "overlay", "png", "tiff", "--method", "rollout", "grad_cam")
    assert run(images, model, out, *forms, "--color-map", "viridis", "--strength", "0.4") == 0
    assert not (out / "maps.npz").exists() and not (out / "0.png").exists()
    classifier = vitreous.load_model(model)
    source = load_image(images / "2.png", classifier.preprocessing)
    relevance = vitreous.relevance(classifier, source[None], method="rollout")[0]
    with Image.open(out / "tiffs" / "2.rollout.tiff") as tiff:
        assert tiff.mode == "F"
        assert np.allclose(np.asarray(tiff), relevance[0], atol=1e-4)
    with Image.open(out / "pngs" / "2.rollout.png") as gray:
        assert np.allclose(np.asarray(gray), relevance[0] * 255, atol=0.55)
    shown = np.asarray(Image.open(out / "overlays" / "2.rollout.png")).astype(int)
    expected = to_uint8(overlay(source, relevance, 0.4, "viridis")).astype(int)
    assert np.abs(shown - expected).max() <= 1
    assert len(list(out.rglob("*.tiff"))) == 10


def test_what_is_out_of_date_is_drawn_anew_and_nothing_else(model, images, tmp_path, explained):
    out = tmp_path / "out"
    arguments = (images, model, out, "--save", "overlay")
    file = out / "overlays" / "3.gradient_attention.png"
    assert run(*arguments) == 0
    first, before = file.read_bytes(), file.stat().st_mtime_ns
    assert run(*arguments) == 0
    assert file.stat().st_mtime_ns == before
    explained.clear()
    assert run(*arguments, "--color-map", "viridis") == 0
    assert file.read_bytes() != first and not explained
    assert run(*arguments) == 0
    assert file.read_bytes() == first
    os.remove(file)
    assert run(*arguments) == 0
    assert file.read_bytes() == first


def test_an_animation_shows_the_images_in_order_and_a_grid_all_methods(model, images, tmp_path):
    for path, level in zip(sorted(images.iterdir()), (0, 60, 120, 180, 240)):
        Image.new("RGB", (40, 40), (level,) * 3).save(path)
    out = tmp_path / "out"
    methods = ("--method", "rollout", "raw_attention", "--target", "top:2")
    assert run(images, model, out, "--gif", "--grid", "2", *methods) == 0
    with Image.open(out / "animation.gif") as animation:
        assert animation.n_frames == 5 and animation.size == (5 * 32, 32)
        levels = []
        for frame in range(5):
            animation.seek(frame)
            levels.append(np.asarray(animation.convert("RGB"))[:, :32].mean())
            assert animation.info["duration"] == 500
    assert np.allclose(levels, (0, 60, 120, 180, 240), atol=4)
    with Image.open(out / "grid.png") as grid:  # two images, each beside four maps
        assert grid.width / grid.height == pytest.approx(5 * 2.35 / (2 * 2.55 + 0.1), rel=0.02)
    classes = json.loads((out / "explanations.json").read_text())["pictures"][0]["models"][0]
    assert classes["target"] == [top["class"] for top in classes["top"][:2]]


def test_an_unknown_colour_map_is_one_line(model, images, tmp_path, capsys):
    assert run(images, model, tmp_path / "out", "--color-map", "infern") == 1
    error = capsys.readouterr().err
    assert error == "vitreous: unknown colour map 'infern'; did you mean 'inferno'?\n"
    assert not (tmp_path / "out").exists()


def test_a_class_that_is_not_there_is_refused_before_any_image(model, images, tmp_path, explained):
    assert run(images, model, tmp_path / "out", "--target", "17") == 1
    assert explained == []


def test_files_of_one_stem_get_names_of_their_own():
    given = ["a/x.png", "b/x.png", "x_2.png", "c/x.jpg", "y.png"]
    keys = file_keys([Path(p) for p in given])
    assert keys[0] == "x" and keys[2] == "x_2" and keys[4] == "y"
    assert len(set(keys)) == len(keys)


@pytest.fixture
def theirs(tmp_path: Path) -> str:
    """A small ViT of transformers, with patches of 8 pixels."""
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, num_labels=3,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "theirs")
    return str(tmp_path / "theirs")


def test_a_method_that_was_asked_for_and_does_not_hold_is_told(
    model, theirs, images, tmp_path, capsys
):
    methods = ("--method", "rollout", "attn_lrp")
    assert run(images, theirs, tmp_path / "out", *methods) == 0
    assert "no map by attn_lrp: " in capsys.readouterr().out
    assert run(images, model, tmp_path / "ours", *methods) == 0
    assert "no map by" not in capsys.readouterr().out


@pytest.mark.parametrize("size", ["5", "37"])
def test_a_size_that_does_not_fit_the_patches_is_one_line(size, theirs, images, tmp_path, capsys):
    capsys.readouterr()
    given = ("--image-size", size)
    assert run(images, theirs, tmp_path / "out", *given) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "patches of 8 × 8 pixels" in line and f"{size} × {size}" in line
