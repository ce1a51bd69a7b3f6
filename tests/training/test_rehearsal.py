"""Mistakes that only a validation would tell are told before the first file is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.training.run import random_state


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_masked_set(tmp_path, classes=2, per_class=3)
    values = tiny_recipe(tmp_path)
    values["data"] |= {
        "images": str(tmp_path / "images"),
        "masks": str(tmp_path / "masks"),
        "validation_share": 0.34,
    }
    values["training"] |= {"epochs": 1, "samples": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "recipe.yaml"


MISTAKES = {
    "start_layer": (
        ["--objectives.relevance.start_layer", "99"],
        "start layer 99 does not exist: the model has",
    ),
    "continue_from": (["--training.continue_from", "nowhere"], "no weights at nowhere"),
    "metric": (
        ["--selection.metric", "validation/nope", "--selection.mode", "max"],
        "selection.metric: no figure 'validation/nope'; there are validation/",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_late_mistake_is_told_before_anything_is_written(recipe, capsys, mistake):
    options, words = MISTAKES[mistake]
    command = ["train", str(recipe), "--quiet", "--out", "out"]
    before = sorted(Path.cwd().rglob("*"))
    assert main([*command, *options]) == 1
    assert words in capsys.readouterr().err
    assert sorted(Path.cwd().rglob("*")) == before
    assert main(command) == 0


@pytest.mark.parametrize(
    "metric",
    ["loss", "accuracy", "relevance", "relevance/foreground_share", "classification"],
)
def test_every_figure_that_there_will_be_may_decide(recipe, metric):
    # The first picture has no mask, the second one has.
    for folder in sorted((recipe.parent / "masks").iterdir()):
        sorted(folder.iterdir())[0].unlink()
    options = ["--data.require_masks", "false", "--selection.metric", f"validation/{metric}"]
    assert main(["train", str(recipe), "--quiet", "--out", "out", *options]) == 0


def test_random_numbers_are_as_without_it(recipe, monkeypatch):
    from vitreous.training import engine, load_recipe
    from vitreous.training.rehearsal import rehearse

    seen = []

    def watched(*arguments):
        before = random_state()
        rehearse(*arguments)
        after = random_state()
        seen.append(torch.equal(before["torch"], after["torch"]))
        assert before["python"] == after["python"]

    monkeypatch.setattr(engine, "rehearse", watched)
    consistency = {"objectives": {"relevance_consistency": {"weight": 1.0}}}
    engine.Trainer(load_recipe(str(recipe), consistency), recipe.parent / "out", quiet=True)
    assert seen == [True]
