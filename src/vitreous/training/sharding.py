"""FSDP2: weights, gradients and the optimiser's state of a model cut among devices.

Each block, and what lies outside of blocks, is put together where a pass needs it and let go again
(`torch.distributed.fsdp.fully_shard`). What is stored is whole, as one process stores it, so that
a run goes on with another number of processes, and one process loads what many trained.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.models.blocks import transformer_blocks
from vitreous.training.objectives import Objective
from vitreous.training.objectives.input_gradients import InputGradientPenalty
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.objectives.relevance_consistency import RelevanceConsistency
from vitreous.training.recipe import Recipe

# Whether they make a pass depends on the images that a process has, and the others would wait.
OWN_PASSES = ("background_swap", "gradalign")


def check_sharding(recipe: Recipe) -> None:
    """Refuse what cannot be trained in shards.

    Raises:
        VitreousError: Names the setting.
    """
    training = recipe.training
    reason = ""
    for name, objective in recipe.objectives.items():
        if _derives_twice(objective):
            reason = f"objective {name} derives twice, which FSDP2 does not"
        if name in OWN_PASSES:
            reason = f"objective {name} makes passes that not every process makes"
    settings = {
        "training.ema": training.ema is not None,
        "training.compile": training.compile,
        "training.continue_from": training.continue_from is not None,
        "training.precision float16": training.precision == "float16",
    }
    reason = next(
        (f"{name} does not go with it" for name, set_ in settings.items() if set_), reason
    )
    if reason:
        raise VitreousError(f"training.sharding fsdp2: {reason}; set training.sharding none")


def _derives_twice(objective: Objective) -> bool:
    if isinstance(objective, InputGradientPenalty):
        return objective.gradient == "second_order"
    return isinstance(objective, Relevance | RelevanceConsistency) and objective.second_order


def shard(classifier: Classifier, device: torch.device, processes: int) -> None:
    """Cut a classifier's weights among all processes, block by block, in place."""
    mesh = init_device_mesh(device.type, (processes,))
    for block in transformer_blocks(classifier).values():
        fully_shard(block, mesh=mesh)
    fully_shard(classifier, mesh=mesh)
    classifier.to(device)  # buffers; weights are there


def gathered(values: Any) -> Any:
    """Put shards together, wherever they are in nested values; all processes must call it.

    Returns:
        The same values with whole tensors on the CPU in place of shards.
    """
    return tree_map_only(DTensor, lambda value: value.full_tensor().cpu(), values)


def cut(value: Tensor, like: Tensor) -> Tensor:
    """This process's shard of a whole tensor, as another one is cut; whole where it is not."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    there = value.to(like.device_mesh.device_type)
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)


def load_network(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Load whole weights into a network that may be cut."""
    own = net.state_dict()
    net.load_state_dict({name: cut(value, own[name]) for name, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a whole state into an optimiser over weights that may be cut."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    kept = {
        place: {
            key: cut(value, weights[place]) if isinstance(value, Tensor) else value
            for key, value in own.items()
        }
        for place, own in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": kept})
