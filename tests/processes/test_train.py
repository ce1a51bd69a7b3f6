"""A launch whose processes do not see each other is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from accelerate import PartialState

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.errors import VitreousError
from vitreous.models import load_model, save_model
from vitreous.processes import check_world

# Without momentum, and a rate of 1, a difference of weights is a difference of gradients.
TINY_MODEL_OPTIONS = {"pretrained": False, "num_classes": 3, "img_size": 32, "patch_size": 8}
ONE_EPOCH = {
    "optimizer": {"name": "sgd", "lr": 1.0, "momentum": 0.0},
    "training": {"epochs": 1, "batch_size": 5, "trackers": [], "samples": 2},
}


def test_a_world_that_accelerate_does_not_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PartialState().num_processes == 1
    check_world(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(VitreousError, match=r"started 2 processes .* sees 1"):
        check_world(PartialState().num_processes)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_command_stops_where_the_worlds_differ(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    PartialState()  # joined alone, before the environment told of two
    monkeypatch.setenv("WORLD_SIZE", "2")
    write_masked_set(tmp_path / "data")
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "data", **ONE_EPOCH)))
    save_model(load_model("vit_tiny_patch16_224", **TINY_MODEL_OPTIONS), tmp_path / "model")
    images = str(tmp_path / "data" / "images")
    options = {
        "train": [str(file), "--quiet"],
        "evaluate": [str(tmp_path / "model"), "--data", images, "--device", "cpu"],
    }
    assert main([command, *options[command], "--out", str(tmp_path / "out")]) != 0
    assert "WORLD_SIZE" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
