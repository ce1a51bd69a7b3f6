"""LoRA: small matrices are trained, and what is kept is a plain model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import vitreous
from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.training import load_recipe
from vitreous.training.engine import Trainer

pytest.importorskip("peft")


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    write_masked_set(tmp_path / "set")
    training = {"epochs": 2, "batch_size": 4, "trackers": [], "samples": 1, "lora_rank": 2}
    optimizer = {"name": "sgd", "lr": 0.5, "momentum": 0.0}
    values = tiny_recipe(tmp_path / "set", training=training, optimizer=optimizer)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_what_is_trained_is_small_and_what_is_kept_is_a_plain_model(recipe, tmp_path) -> None:
    trainer = Trainer(load_recipe(recipe), tmp_path / "run", quiet=True)
    net = trainer.classifier.net
    trained = {name for name, weight in net.named_parameters() if weight.requires_grad}
    lora = {name for name in trained if ".attn.qkv.lora_" in name}
    assert len(lora) == 4 and trained - lora == {"head.weight", "head.bias"}
    before = {k.replace(".base_layer", ""): v.clone() for k, v in net.state_dict().items()}
    trainer.run()
    after = load_file(tmp_path / "run" / "model.safetensors")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias", *(f"blocks.{i}.attn.qkv.weight" for i in (0, 1))}
    change = after["blocks.0.attn.qkv.weight"] - before["blocks.0.attn.qkv.weight"]
    assert torch.linalg.matrix_rank(change, rtol=1e-3) == 2
    if trainer.progress.best_epoch == 2:
        images = torch.rand(2, 3, 32, 32)
        kept = vitreous.load_model(tmp_path / "run")
        with torch.no_grad():
            torch.testing.assert_close(kept(images), trainer.classifier.eval()(images))


def test_a_run_with_adapters_goes_on(recipe, tmp_path) -> None:
    command = ["train", recipe, "--quiet", "--out"]
    assert main([*command, str(tmp_path / "whole"), "--schedule.name", "constant"]) == 0
    for epochs in ("1", "2"):
        own = ["--schedule.name", "constant", "--training.epochs", epochs]
        assert main([*command, str(tmp_path / "parts"), *own]) == 0
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_layer_that_is_not_there_is_told(recipe, tmp_path, capsys) -> None:
    wrong = ["--training.lora_targets", "[nothing]", "--out", str(tmp_path / "out")]
    assert main(["train", recipe, *wrong]) == 1
    assert "training.lora_targets nothing: " in capsys.readouterr().err
