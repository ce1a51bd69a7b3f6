"""Training in two real processes is training in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import PartialState
from safetensors.torch import load_file

from helpers import tiny_recipe, write_masked_set
from processes.launch import launch
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
OBJECTIVES: dict[str, dict[str, Any]] = {
    "robust_vit": {
        "classification": {"weight": 0.2, "target": "prediction"},
        "relevance": {"weight": 0.8},
    },
    "relevance_alone": {"relevance": {"weight": 0.8}},
    "rrr": {"classification": {}, "rrr": {"weight": 0.01}},
}


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_train_as_one(name: str, tmp_path: Path) -> None:
    """Twelve images in batches of 5, 5 and 2: shares of 3 and 2 rows, and of one each."""
    write_masked_set(tmp_path / "data")
    recipe = tiny_recipe(tmp_path / "data", objectives=OBJECTIVES[name], **ONE_EPOCH)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    assert main(["train", str(file), "--out", str(tmp_path / "one"), "--quiet"]) == 0
    command = ["train", str(file), "--out", str(tmp_path / "two"), "--quiet"]
    result = launch(tmp_path / "notes", *command)
    assert result.code == 0, result.messages[-2000:]
    assert result.seen == [2, 2]
    writers = result.written_in(tmp_path / "two")
    assert tmp_path / "two" / "metrics.jsonl" in writers[0] and not writers[1]

    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("one", "two"))
    largest = max(float((one[k] - two[k]).abs().max()) for k in one)
    assert one.keys() == two.keys() and largest <= 1e-6
    first, second = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(first) == 1 + 3 + 1 and len(second) == len(first)
    for expected, found in zip(first, second):
        assert found == pytest.approx(expected, abs=1e-5)
    state = torch.load(tmp_path / "two" / "checkpoints" / "last.pt", weights_only=True)
    assert state["progress"]["step"] == 3


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
