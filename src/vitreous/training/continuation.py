"""Take up a checkpoint of the published scripts: weights, optimiser state and epochs done.

Both papers' scripts write `{"epoch", "arch", "state_dict", "optimizer", …}`. Their optimiser keeps
its state by the place of each weight, and `state_dict` lists the weights in that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from vitreous.errors import CheckpointError
from vitreous.models.checkpoints import PREFIXES, load_weights, read_weights


def continue_checkpoint(
    path: str | Path, net: nn.Module, optimizer: torch.optim.Optimizer, epochs: int
) -> int:
    """Load weights and optimiser state of a published checkpoint.

    Args:
        path: `checkpoint_epoch{N}.pth.tar`, `model_best.pth.tar` or RobustViT's; read weights-only.
        net: The same architecture with a head of the same size; changed in place.
        optimizer: Over `net`'s weights, of the kind that the file's state is of; changed in place.
        epochs: How many the run shall have done in the end.

    Returns:
        Epochs that the checkpoint had done.

    Raises:
        CheckpointError: If the file is no such checkpoint, is of another model or optimiser, or
            has done all epochs already.
    """
    weights = read_weights(path)
    epoch, stored = weights.details.get("epoch"), weights.optimizer
    if not isinstance(epoch, int) or stored is None:
        missing = "epoch" if not isinstance(epoch, int) else "optimiser state"
        raise CheckpointError(
            f"{path} holds no {missing} to go on from; to start from its weights alone, give "
            "--model.checkpoint instead of --training.continue_from"
        )
    if epoch >= epochs:
        raise CheckpointError(f"{path} has done {epoch} epochs; set training.epochs above that")
    own = {name: place for place, (name, _) in enumerate(net.named_parameters())}
    shapes = {name: p.shape for name, p in net.named_parameters()}
    prefix = max(PREFIXES, key=lambda p: sum(p + name in weights.state for name in own))
    names = [k.removeprefix(prefix) for k in weights.state if k.removeprefix(prefix) in own]
    places = [place for group in stored["param_groups"] for place in group["params"]]
    if len(names) != len(own) or len(places) != len(own):
        raise CheckpointError(
            f"{path} keeps the state of {len(places)} weights, {len(names)} of which this "
            f"{type(net).__name__} has; expected {len(own)}: it is of another model"
        )
    state: dict[int, Mapping[str, object]] = {}
    for name, place in zip(names, places):
        kept = stored["state"].get(place, {})
        for key, value in kept.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != shapes[name]:
                raise CheckpointError(
                    f"{path}: the optimiser's {key} of {name} is {tuple(value.shape)}, expected "
                    f"{tuple(shapes[name])}: it is of another model"
                )
        state[own[name]] = kept
    groups = optimizer.state_dict()["param_groups"]
    kind = optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer
    wrong = sorted({key for kept in state.values() for key in kept} ^ _remembered(kind))
    if wrong:
        raise CheckpointError(
            f"{path} was not trained with {type(kind).__name__}: {', '.join(wrong)} of its "
            "state do not fit; set optimizer.name"
        )
    load_weights(net, weights.state, source=str(path))
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return epoch


def _remembered(optimizer: torch.optim.Optimizer) -> set[str]:
    """What an optimiser of this kind keeps of each weight."""
    adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    return {"step", "exp_avg", "exp_avg_sq"} if adam else {"momentum_buffer"}
