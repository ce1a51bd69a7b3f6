"""The blocks of a Vision Transformer: what is computed again, or shared among devices, whole."""

from __future__ import annotations

from torch import nn

from vitreous.errors import UnsupportedModelError
from vitreous.models.families import attention_layers


def transformer_blocks(module: nn.Module) -> dict[str, nn.Module]:
    """Find the blocks that attention lies in, by name, in forward order.

    A block is the innermost numbered part (`blocks.3`, `encoder.layer.3`) around an attention
    layer; a pooling head is none.

    Raises:
        UnsupportedModelError: If there are none.
    """
    names = dict.fromkeys(_numbered(name) for name in attention_layers(module))
    names.pop("", None)
    if not names:
        kind = type(getattr(module, "net", module)).__name__
        raise UnsupportedModelError(
            f"{kind} has no blocks with attention; set training.gradient_checkpointing false and "
            "training.sharding none"
        )
    return {name: module.get_submodule(name) for name in names}


def _numbered(name: str) -> str:
    """The name up to its last number; empty where it has none."""
    parts = name.split(".")
    last = max((place for place, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1])
