"""Several processes: every weight that a pass uses has a gradient, and a run ends in order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import vitreous
from helpers import TINY_MODEL
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
