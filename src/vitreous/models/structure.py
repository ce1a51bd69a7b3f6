"""How a network is built, beside its weights: classes and plain settings of its modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

# How a module computes, not what: another value gives the same answer. What torch keeps of each
# module (mode, hooks, tables of parameters) is no setting, and weights are no structure.
_IMPLEMENTATION = {"fused_attn", *vars(nn.Module())}
# Of the network itself: a head that was put on later leaves the number as it was, and open_clip
# notes the normalization on its tower.
_NOTES = {"num_classes", "grad_checkpointing", "image_mean", "image_std"}


def rebuilt_by(build: Callable[..., nn.Module], arguments: dict[str, Any], net: nn.Module) -> bool:
    """Whether arguments build a network that differs from another one in its weights alone.

    Nothing is allocated and no random number drawn.
    """
    try:
        with torch.device("meta"):
            twin = build(**arguments)
    except Exception:  # arguments that are guessed fail in any way
        return False
    return _structure(twin) == _structure(net)


def _structure(net: nn.Module) -> list[object]:
    modules = [[name, *settings_of(module)] for name, module in net.named_modules()]
    own: Any = modules[0][2]
    modules[0][2] = {k: v for k, v in own.items() if k not in _NOTES}
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return [modules, {name: tuple(value.shape) for name, value in tensors.items()}]


def settings_of(module: nn.Module) -> list[object]:
    """Class of a module and its attributes that are plain values."""
    kind = type(module)
    plain = {k: _value(v) for k, v in vars(module).items() if k not in _IMPLEMENTATION}
    return [f"{kind.__module__}.{kind.__qualname__}", {k: v for k, v in plain.items() if v}]


def _value(value: object) -> object:
    """A plain value as text, which tells 1 from 1.0 and None from "None"; else nothing."""
    if isinstance(value, bool | int | float | str | type(None)):
        return repr(value)
    if isinstance(value, tuple | list) and all(_value(v) for v in value):
        return [_value(v) for v in value] or "[]"
    # functions and partials decide too: an activation, a pooling
    if callable(value) and not isinstance(value, nn.Module) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return None
