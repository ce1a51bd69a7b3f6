"""What a run finds when it goes on: states that cannot be used, images that changed."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build, merge
from vitreous.errors import VitreousError
from vitreous.results import Results
from vitreous.training import Recipe, train
from vitreous.training.engine import Trainer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_masked_set(tmp_path / "set")
    return tmp_path / "set"


def make(root: Path, **training: Any) -> Recipe:
    settings = {"epochs": 2, "batch_size": 4, "samples": 0, "checkpoint_every": 2, **training}
    return build(Recipe, merge(tiny_recipe(root), {"training": settings}))


def interrupted(recipe: Recipe, out: Path, monkeypatch: pytest.MonkeyPatch, step: int = 5) -> Path:
    original = Trainer.step

    def dying(self: Trainer, *arguments: Any) -> dict[str, float]:
        if self.progress.step >= step:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", dying)
        train(recipe, out, quiet=True)
    return out / "checkpoints" / "last.pt"


class Malicious:
    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, (str(self.victim), os.O_CREAT)


def malicious(file: Path) -> None:
    torch.save({"model": Malicious(file.parents[2] / "ran")}, file)


def malicious_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps(Malicious(file.parents[2] / "ran")))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("no state", encoding="utf-8")


def zeros(file: Path) -> None:
    file.write_bytes(bytes(5000))


def of_another_make(file: Path) -> None:
    torch.save({"state_dict": {"x": torch.zeros(3)}, "epoch": 3}, file)


def a_list(file: Path) -> None:
    torch.save([1, 2], file)


def of_another_model(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    torch.save({**state, "model": {k: v[..., :1] for k, v in state["model"].items()}}, file)


def cut(share: float) -> Callable[[Path], None]:
    def shorten(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * share)])

    shorten.__name__ = f"cut_at_{share}"
    return shorten


BROKEN = [malicious, malicious_pickle, empty, text, zeros, of_another_make, a_list]
BROKEN += [of_another_model, *(cut(tenth / 10 + 0.05) for tenth in range(10))]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that was interrupted, and the model of one that was not."""
    folder = tmp_path_factory.mktemp("stopped")
    write_masked_set(folder / "set")
    with pytest.MonkeyPatch.context() as patch:
        interrupted(make(folder / "set"), folder / "run", patch)
    train(make(folder / "set"), folder / "whole", quiet=True)
    return folder, folder / "whole" / "model.safetensors"


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_the_state_before_is_used_with_a_word_and_nothing_is_lost(
    stopped, tmp_path, caplog, damage
):
    folder, whole = stopped
    shutil.copytree(folder / "run", tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "last.pt")
    train(make(folder / "set"), tmp_path / "run", quiet=True)
    said = [record.getMessage() for record in caplog.records if "last.pt" in record.getMessage()]
    assert len(said) == 1 and "going on from the state before it, previous.pt" in said[0]
    assert "\n" not in said[0] and "weights_only=False" not in said[0]
    assert not (tmp_path / "ran").exists()
    wanted = safetensors.torch.load_file(whole)
    now = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(wanted[key], now[key]) for key in wanted)


def test_where_no_state_can_be_used_one_line_says_how_to_begin_anew(stopped, tmp_path):
    folder, _ = stopped
    shutil.copytree(folder / "run", tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    malicious(checkpoints / "last.pt")
    empty(checkpoints / "previous.pt")
    with pytest.raises(VitreousError, match="to begin anew") as caught:
        train(make(folder / "set"), tmp_path / "run", quiet=True)
    line = str(caught.value)
    assert "asks to run code when loaded" in line and "is empty (0 bytes)" in line
    assert "\n" not in line and "weights_only" not in line
    shutil.rmtree(checkpoints)
    train(make(folder / "set"), tmp_path / "run", quiet=True)


@pytest.mark.parametrize("content", ["", "model: [", "- a\n- b\n", "model: {name: 3}\n", "\0"])
def test_a_recipe_that_cannot_be_read_is_one_line(root, tmp_path, monkeypatch, content):
    interrupted(make(root), tmp_path / "run", monkeypatch)
    (tmp_path / "run" / "recipe.yaml").write_text(content)
    with pytest.raises(VitreousError, match="put it back, or give another folder") as caught:
        train(make(root), tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value) and "recipe.yaml" in str(caught.value)


def added(images: Path) -> None:
    (images / "class_0" / "new.png").write_bytes((images / "class_0" / "0.png").read_bytes())
    masks = images.parent / "masks" / "class_0"
    (masks / "new.png").write_bytes((masks / "0.png").read_bytes())


def removed(images: Path) -> None:
    (images / "class_1" / "2.png").unlink()


@pytest.mark.parametrize(("change", "words"), [(added, "1 added (first"), (removed, "1 removed")])
def test_images_that_came_or_went_are_refused(root, tmp_path, monkeypatch, change, words):
    interrupted(make(root), tmp_path / "run", monkeypatch)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    change(root / "images")
    with pytest.raises(VitreousError, match="have changed since it was interrupted") as caught:
        train(make(root), tmp_path / "run", quiet=True)
    assert words in str(caught.value)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == rows


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_replaced_image_or_mask_is_told_and_stays_in_the_results(
    root, tmp_path, monkeypatch, caplog, kind
):
    interrupted(make(root), tmp_path / "run", monkeypatch)
    first, second = (root / kind / "class_1" / f"{index}.png" for index in (1, 2))
    first.write_bytes(second.read_bytes())
    train(make(root), tmp_path / "run", quiet=True)
    assert "1 of 15 images or masks were replaced" in caplog.text
    warnings = Results.read(tmp_path / "run").extra["warnings"]
    assert len(warnings) == 1 and "replaced while this run was interrupted" in warnings[0]


def test_a_run_on_the_same_images_warns_of_nothing(root, tmp_path, monkeypatch, caplog):
    interrupted(make(root), tmp_path / "run", monkeypatch)
    train(make(root), tmp_path / "run", quiet=True)
    assert not caplog.text and "warnings" not in Results.read(tmp_path / "run").extra


def test_a_kill_between_the_second_name_and_the_new_state_leaves_no_third(root, tmp_path):
    train(make(root), tmp_path / "run", quiet=True)
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "previous.pt").unlink()
    os.link(checkpoints / "last.pt", checkpoints / "previous.pt")
    train(make(root, epochs=3), tmp_path / "run", quiet=True)
    assert {path.name for path in checkpoints.iterdir()} == {"last.pt", "previous.pt"}
