"""Several processes: every weight that a pass uses has a gradient, and a run ends in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from torch.nn.parallel import DistributedDataParallel

import vitreous
from helpers import TINY_MODEL, tiny_recipe, write_masked_set
from vitreous.data.batch import Batch
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.step import Share, compute_loss


@pytest.fixture
def group(tmp_path: Path):
    """A group of one process, in which DDP counts gradients as in one of many."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def relevance_batch(masked: bool) -> Batch:
    masks = torch.zeros(3, 1, 32, 32)
    masks[:, :, 8:24, 8:24] = 1
    rows = torch.arange(3)
    return Batch(torch.rand(3, 3, 32, 32), rows, masks, torch.full((3,), masked), rows)


@pytest.mark.parametrize("second_order", [False, True])
def test_relevance_alone_trains_on_under_ddp(second_order, group):
    """No gradient of the maps reaches the head, which the logits have marked as used."""
    model = vitreous.load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=3,
        image_size=32,
        **TINY_MODEL["options"],
    ).train()
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    objectives = {"relevance": Relevance(second_order=second_order)}
    for masked in (True, True, False, True):
        model.zero_grad()
        batch = relevance_batch(masked)
        loss = compute_loss(wrapped, model, batch, objectives)
        loss.scaled(Share.whole(batch)).backward()
        assert all(p.grad is not None for p in model.parameters())
        reached = model.net.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
        assert reached == masked


SCRIPT = """
import os, sys, yaml
import torch.distributed as dist
from vitreous.config import build
from vitreous.training import Recipe, train

assert os.environ["WORLD_SIZE"] == "2"
recipe = build(Recipe, yaml.safe_load(open(sys.argv[1])))
train(recipe, sys.argv[2], quiet=True)
assert not dist.is_initialized()
"""


def launch(tmp_path: Path, values: dict, processes: int) -> dict[str, torch.Tensor]:
    """Train on the CPU by torchrun (one process: as it is); returns the weights at the end."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(values))))
    script, out = tmp_path / "script.py", tmp_path / f"run{processes}"
    text = SCRIPT if processes > 1 else SCRIPT.replace('os.environ["WORLD_SIZE"] == "2"', "True")
    script.write_text(text)
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    arguments = [str(script), str(tmp_path / "recipe.yaml"), str(out)]
    ended = subprocess.run([*start, *arguments], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return torch.load(out / "checkpoints" / "last.pt", weights_only=True)["model"]


def test_two_processes_train_on_relevance_alone_as_one_does_and_end_in_order(tmp_path):
    write_masked_set(tmp_path / "set")
    values = tiny_recipe(tmp_path / "set")
    values["objectives"] = {"relevance": {}}
    values["optimizer"] = {"name": "sgd", "lr": 1.0, "momentum": 0.0}
    values["training"] = {**values.get("training", {}), "epochs": 1, "batch_size": 4}
    one, two = (launch(tmp_path, values, processes) for processes in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)
