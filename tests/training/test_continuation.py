"""Going on from checkpoints of the published scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build
from vitreous.errors import VitreousError
from vitreous.training import train
from vitreous.training.engine import Trainer
from vitreous.training.recipe import Recipe
from vitreous.training.run import RunFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_masked_set(tmp_path / "data")
    return tmp_path / "data"


def make(root: Path, **overrides: Any) -> Recipe:
    return build(Recipe, tiny_recipe(root, objectives={"classification": {}}, **overrides))


def published_checkpoint(path: Path, state: dict[str, Any], **changes: Any) -> Path:
    """Write a state of ours as both papers' scripts write theirs."""
    torch.save(
        {
            "epoch": state["progress"]["epoch"],
            "arch": "vit_tiny_patch16_224",
            "state_dict": {f"module.{k}": v for k, v in state["model"].items()},
            "best_prec1": torch.tensor(50.0),
            "optimizer": state["optimizer"],
            **changes,
        },
        path,
    )
    return path


CONTINUED = {"epochs": 2, "batch_size": 5, "trackers": [], "samples": 0}


def test_going_on_from_a_published_checkpoint_equals_the_whole_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adversary = {"name": "fgsm", "epsilon": 0.05, "step_size": 0.02}
    train(make(root, adversary=adversary, training=CONTINUED), tmp_path / "whole", quiet=True)

    def stop(self, *_) -> None:
        if self.progress.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", stopping := Trainer.run_epoch)
        patch.setattr(Trainer, "run_epoch", lambda self, bar: (stop(self), stopping(self, bar)))
        with pytest.raises(KeyboardInterrupt):
            train(make(root, adversary=adversary, training=CONTINUED), tmp_path / "cut", quiet=True)
    state = RunFolder(tmp_path / "cut").load_state()
    assert state is not None
    file = published_checkpoint(tmp_path / "checkpoint_epoch1.pth.tar", state)
    training = {**CONTINUED, "continue_from": str(file)}
    train(make(root, adversary=adversary, training=training), tmp_path / "on", quiet=True)
    whole, on = (RunFolder(tmp_path / name).load_state() for name in ("whole", "on"))
    assert whole["progress"]["step"] == on["progress"]["step"] > 0
    assert all(torch.equal(whole["model"][k], v) for k, v in on["model"].items())
    for place, kept in whole["optimizer"]["state"].items():
        assert all(torch.equal(kept[k], v) for k, v in on["optimizer"]["state"][place].items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": None}, "no optimiser state to go on from"),
        ({"epoch": "three"}, "no epoch to go on from"),
        ({"epoch": 2}, "has done 2 epochs; set training.epochs above that"),
        ({"optimizer": {"state": {}, "param_groups": [{"params": [0, 1]}]}}, "of another model"),
    ],
)
def test_a_checkpoint_that_cannot_be_gone_on_from_is_told(
    changes: dict[str, Any], message: str, root: Path, tmp_path: Path
) -> None:
    first = {**CONTINUED, "epochs": 1}
    train(make(root, training=first), tmp_path / "first", quiet=True)
    state = RunFolder(tmp_path / "first").load_state()
    assert state is not None
    file = published_checkpoint(tmp_path / "model_best.pth.tar", state, **changes)
    with pytest.raises(VitreousError, match=message):
        training = {**CONTINUED, "continue_from": str(file)}
        train(make(root, training=training), tmp_path / "on", quiet=True)
    with pytest.raises(VitreousError, match="was not trained with SGD"):
        file = published_checkpoint(tmp_path / "other.pth.tar", state)
        optimizer = {"name": "sgd", "lr": 0.1}
        training = {**CONTINUED, "continue_from": str(file)}
        train(make(root, optimizer=optimizer, training=training), tmp_path / "sgd", quiet=True)
