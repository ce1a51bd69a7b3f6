"""In which type a forward pass is made: one place for the names, the context and `auto`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, get_args

from vitreous.errors import VitreousError, nearest

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
AnyPrecision = Literal["auto", "float32", "bfloat16", "float16"]
"""`auto` is bfloat16 where the device computes it fast, and float32 elsewhere."""

AMPERE = (8, 0)  # NVIDIA's first generation with bfloat16 in its tensor cores


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """A context in which matrix products are made in a type; nothing changes in float32.

    Relevance, losses and statistics stay in float32 inside of it: what adds up says so itself.
    """
    import torch

    kind: torch.dtype = getattr(torch, precision)
    return torch.autocast(device.type, kind, enabled=precision != "float32")


def rounds(device: torch.device) -> bool:
    """Whether passes on a device are made in a smaller type than float32 just now."""
    import torch

    return torch.is_autocast_enabled(device.type)


def unrounded(device: torch.device) -> AbstractContextManager[object]:
    """A context in which passes are made in the model's own type, within `autocast` too."""
    return autocast(device, "float32")


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions of its own for products in bfloat16."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    has = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The type that a name means on a device.

    Raises:
        VitreousError: For a name that is none.
    """
    if name == "auto":
        return "bfloat16" if fast_in_bfloat16(device) else "float32"
    for precision in get_args(Precision):
        if name == precision:
            return precision
    raise VitreousError(f"unknown precision '{name}'; {nearest(name, get_args(AnyPrecision))}")
