"""What a network of timm's that was given as it is can be built from again.

It says timm's name of itself, and not the arguments: they are read off it, and hold only if a
network that is built from them is like it in all but the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import timm
from torch import nn

from vitreous.models.heads import logit_count
from vitreous.models.preprocessing import Architecture
from vitreous.models.structure import rebuilt_by


def timm_architecture(net: nn.Module) -> Architecture | None:
    """Name and arguments of a network of timm's; None of others and where they are not known."""
    name = str((getattr(net, "pretrained_cfg", None) or {}).get("architecture") or "")
    if not timm.is_model(name):
        return None
    build = functools.partial(timm.create_model, name, pretrained=False)
    for arguments in _guesses(net):
        if rebuilt_by(build, arguments, net):
            return {"architecture": name, "model_args": arguments}
    return None


def _guesses(net: Any) -> Iterator[dict[str, Any]]:
    """Arguments that a network may have been made with, from few to many."""
    embed, blocks = getattr(net, "patch_embed", None), getattr(net, "blocks", ())
    size = getattr(embed, "img_size", None)
    last: Any = blocks[-1] if isinstance(blocks, nn.Sequential | nn.ModuleList) else None
    first = getattr(last, "attn", None)
    rates = {
        "drop_path_rate": getattr(getattr(last, "drop_path1", None), "drop_prob", None),
        "drop_rate": getattr(getattr(net, "head_drop", None), "p", None),
    }
    steps: list[dict[str, Any]] = [
        {"num_classes": logit_count(net)},
        {"img_size": _plain(size)} if size is not None else {},
        {name: rate for name, rate in rates.items() if rate},
        {"dynamic_img_size": True} if getattr(net, "dynamic_img_size", False) else {},
        {"global_pool": pool} if (pool := getattr(net, "global_pool", None)) else {},
        {
            "patch_size": _plain(getattr(embed, "patch_size", None)),
            "embed_dim": getattr(net, "embed_dim", None),
            "depth": len(blocks),
            "num_heads": getattr(first, "num_heads", None),
        },
    ]
    made: dict[str, Any] = {}
    for step in steps:
        if step:
            made = made | step
            yield made


def _plain(size: Any) -> Any:
    """A square as one number, as users write it."""
    sides = [int(side) for side in size] if isinstance(size, Sequence) else [size]
    return sides[0] if len({*sides}) == 1 else sides
