"""The generated set, and `vitreous demo` from nothing to the card."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import pytest
import torch

from chromium import check_card, open_page
from vitreous.cli import main
from vitreous.data.generated.scenes import (
    KINDS,
    World,
    draw_scenes,
    sample_scenes,
    shift_cues,
    without_cues,
    write_folder,
)
from vitreous.data.images import open_image, to_tensor
from vitreous.data.mask_files import read_mask
from vitreous.data.readers.generated import Generated
from vitreous.demo.words import summary
from vitreous.models import load_model
from vitreous.results import Record, Results, accuracy_record, wilson_interval


def test_same_seed_same_pictures_other_seed_others():
    world = World()
    first, masks = draw_scenes(world, sample_scenes(world, 24, seed=3))
    again, again_masks = draw_scenes(world, sample_scenes(world, 24, seed=3), chunk=5)
    other, _ = draw_scenes(world, sample_scenes(world, 24, seed=4))
    assert torch.equal(first, again) and torch.equal(masks, again_masks)
    assert not torch.equal(first, other)
    assert first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("cue", ["tag", "pattern", "colour"])
def test_only_the_background_changes_with_the_cue(cue):
    world = World(cue=cue)
    scenes = sample_scenes(world, 64, seed=0)
    normal, masks = draw_scenes(world, scenes)
    shifted, shifted_masks = draw_scenes(world, shift_cues(world, scenes, seed=1))
    assert torch.equal(masks, shifted_masks)
    inside = -torch.nn.functional.max_pool2d(-masks, 3, 1, 1)
    assert ((normal - shifted) * inside).abs().max() < 1e-6
    assert ((normal - shifted).abs().amax((1, 2, 3)) > 0.05).all()


def test_the_cue_gives_the_class_away_in_training_and_never_in_the_shifted_set():
    world = World()
    scenes = sample_scenes(world, 800, seed=0)
    assert torch.equal(scenes.cues, scenes.labels)
    shifted = shift_cues(world, scenes, seed=1)
    assert not (shifted.cues == shifted.labels).any()
    counts = torch.zeros(8, 8).index_put_(
        (shifted.labels, shifted.cues), torch.ones(800), accumulate=True
    )
    assert counts[~torch.eye(8, dtype=torch.bool)].min() >= 4
    part = sample_scenes(world, 4000, seed=0, agreement=0.7)
    low, high = wilson_interval(0.7 * 4000, 4000, z=4)
    assert low < (part.cues == part.labels).float().mean() < high


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_where_the_object_is(kind):
    """The object's pixels are those that change when its colour changes, up to the shadow."""
    world = World(classes=(kind, "ball" if kind != "ball" else "star"))
    scenes = without_cues(sample_scenes(world, 32, seed=2))
    colors = scenes.colors.clone()
    colors[:, 0, 0] = (colors[:, 0, 0] + 0.5) % 1
    image, masks = draw_scenes(world, scenes)
    repainted, _ = draw_scenes(world, dataclasses.replace(scenes, colors=colors))
    changed = ((image - repainted).abs().amax(1, keepdim=True) > 1e-3).float()
    rim = torch.nn.functional.max_pool2d(masks, 3, 1, 1)
    assert (changed * (1 - rim)).sum() < 0.01 * masks.sum()
    assert (masks * changed).sum() > 0.95 * masks.sum()
    assert masks.mean((1, 2, 3)).min() > 0.02
    assert (masks[:, :, :, [0, -1]].sum() + masks[:, :, [0, -1]].sum()) == 0


def test_a_folder_of_drawn_pictures_is_what_was_drawn(tmp_path):
    world = World()
    scenes = sample_scenes(world, 9, seed=7)
    images, masks = draw_scenes(world, scenes)
    root = write_folder(tmp_path / "set", world, scenes, masks=True)
    file = f"{world.classes[8 % 8]}/00008.png"
    read = to_tensor(open_image(root / "images" / file))
    assert (read - images[8]).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(read_mask(root / "masks" / file), masks[8])
    source = Generated(train=9, validation=4, masks=str(root / "masks"), scenes_seed=7)
    item = source.load(0).train[8]
    mask, label = item.mask, item.label
    assert label == 0 and mask is not None and torch.equal(mask, masks[8])


def test_only_as_many_pictures_have_masks_as_are_asked_for():
    train = Generated(train=12, validation=4, masks="exact", masked=5).load(0).train
    assert [train[i].mask is not None for i in range(12)] == [True] * 5 + [False] * 7


def test_unknown_kind_of_object_is_one_line(capsys, tmp_path):
    assert (
        main(["train", "demo/shortcut", "--data.classes", "[star, dragon]", "--out", str(tmp_path)])
        == 1
    )
    error = capsys.readouterr().err
    assert "dragon" in error and "star" in error and error.count("\n") == 1


def test_the_words_follow_the_numbers():
    def model(name: str, shifted: int) -> Results:
        shift = accuracy_record("shifts", "tag of another class", "top1", shifted, 500)
        return Results(name, [accuracy_record("clean", "normal", "top1", 495, 500), shift])

    worse = summary([model("with the shortcut", 300), model("guided", 200)])
    assert "costs 39 points" in worse and "−20.0 points" in worse and "a loss" in worse
    same = summary([model("with the shortcut", 300), model("guided", 305)])
    assert "no clear change" in same
    assert "No shortcut shows: 99" in summary([model("quick", 500), model("guided", 305)])
    assert summary([Results("nothing", [Record("clean", "x", "y", 0.5)])]) == ""


QUICK = ["demo", "--quick", "--quiet", "--out"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short demo; what it said lies beside it."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert main(["demo", "--quick", "--out", str(out)]) == 0
    (out.parent / "told.txt").write_text(told.getvalue(), encoding="utf-8")
    return out


def test_the_demo_runs_from_nothing_to_the_card_and_again(demo, capsys):
    for name in ("shortcut", "plain", "guided", "swapped", "robust", "joint"):
        results = Results.read(demo / name)
        shifted = results.find(suite="shifts", dataset="tag of another class")[0]
        assert shifted.n == 64 and shifted.ci95 is not None
        assert results.find(suite="explanation", metric="foreground_share")
        assert load_model(demo / name).num_classes == 8
    lines = (demo.parent / "told.txt").read_text(encoding="utf-8").splitlines()
    titles = ("with the shortcut", "finetuned plainly", "guided", "backgrounds swapped")
    steps = [line for line in lines if line.startswith(("training: ", "measuring: "))]
    told = [f"{step}: {title}" for step in ("training", "measuring") for title in titles]
    assert [line for line in steps if line.endswith(titles)] == told
    before = (demo / "guided" / "model.safetensors").read_bytes()
    assert main([*QUICK, str(demo)]) == 0
    assert str(demo / "card.html") in capsys.readouterr().out
    assert (demo / "guided" / "model.safetensors").read_bytes() == before
    assert main([*QUICK, str(demo), "--seed", "1"]) == 1
    assert "other settings" in capsys.readouterr().err
    assert json.loads((demo / "demo.json").read_text())["seed"] == 0


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1240, False), (1240, True), (390, False)])
def test_the_demos_card_is_drawn_without_errors_at_any_width(demo, tmp_path, width, dark):
    with open_page(tmp_path / "profile") as page:
        check_card(page, demo / "card.html", width, dark, tmp_path / "shot.png")
        headings = page.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)")
        assert {"At a glance", "What it looks at", "Pushed towards a class", "Training"} <= {
            *headings
        }
        names = "[...document.querySelectorAll('.models li')].length"
        assert page.evaluate(names) == 6
        panels = "[...document.querySelectorAll('.strip-row')].length"
        assert page.evaluate(panels) == 6 * 3
