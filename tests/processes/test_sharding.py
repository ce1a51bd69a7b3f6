"""FSDP2: what cut weights train is what whole ones train, and one process takes it up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import vitreous
from helpers import tiny_recipe, write_masked_set
from processes.cases import prepare
from processes.launch import launch_all
from vitreous.cli import main

NAME = "shards"


@pytest.mark.long
def test_killed_in_shards_and_gone_on_with_in_one_process(tmp_path: Path) -> None:
    case = next(case for case in prepare(tmp_path, [NAME]) if case.name == f"train, {NAME}")
    (came,) = launch_all(tmp_path / "notes", [case.line(tmp_path / "killed")], dies=(1, 2))
    assert came.code
    state = torch.load(tmp_path / "killed" / "checkpoints" / "last.pt", weights_only=True)
    weight = state["model"]["blocks.0.attn.qkv.weight"]
    assert type(weight) is torch.Tensor and weight.shape == (72, 24), "stored whole"
    assert state["progress"]["step"] == 2
    for folder in ("killed", "whole"):
        assert main(case.line(tmp_path / folder)) == 0
    one, two = case.read(tmp_path / "whole"), case.read(tmp_path / "killed")
    assert one.rows == two.rows and one.difference(two) <= case.tolerance
    model = vitreous.load_model(tmp_path / "killed")
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": {"rrr": {}}}, "objective rrr derives twice"),
        ({"objectives": {"relevance": {"second_order": True}}}, "objective relevance derives"),
        ({"objectives": {"background_swap": {}}}, "objective background_swap makes passes"),
        ({"training": {"ema": 0.9}}, "training.ema does not go with it"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_line(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_masked_set(tmp_path / "set")
    own = changes.get("training", {})
    training = {"epochs": 1, "trackers": [], "sharding": "fsdp2", **own}
    values = tiny_recipe(tmp_path / "set", **{**changes, "training": training})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert main(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "training.sharding fsdp2: " + words in line and "none" in line
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
