"""What an answer of a model depends on, as one key: architecture, weights, buffers, preparation."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from vitreous.fingerprint import digest
from vitreous.models.classifier import Classifier

# How a module computes, not what: another value gives the same answer. What torch keeps of each
# module (mode, hooks, tables of parameters) is no setting either; weights are digested apart.
_IMPLEMENTATION = {"fused_attn", *vars(nn.Module())}


def model_fingerprint(classifier: Classifier) -> str:
    """Tell one classifier from another by everything that its answers depend on.

    That is: the class and the plain settings of every module (`num_heads`, `global_pool`, `eps`,
    …; private ones too), all parameters and buffers, those that no checkpoint holds too, the
    normalization, and the preprocessing. Names, modes, devices and registered hooks do not matter.

    Returns:
        16 hexadecimal characters.
    """
    return digest(
        [[name, *_settings(module)] for name, module in classifier.net.named_modules()],
        [[name, tensor_digest(value)] for name, value in classifier.net.named_parameters()],
        [[name, tensor_digest(value)] for name, value in classifier.net.named_buffers()],
        [tensor_digest(classifier.mean), tensor_digest(classifier.std)],
        classifier.preprocessing,
    )


def tensor_digest(value: Tensor) -> str:
    """Digest of a tensor's type, shape and content."""
    content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    total = hashlib.blake2b(f"{value.dtype} {tuple(value.shape)} ".encode(), digest_size=8)
    total.update(content.data)
    return total.hexdigest()


def _settings(module: nn.Module) -> list[object]:
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
