"""Which device a name means on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitreous.errors import VitreousError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str, rank: int = 0) -> torch.device:
    """The device that a name means on this machine.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:N`, or another of torch's.
        rank: Number of this process among those of the machine, which share its GPUs.

    Raises:
        VitreousError: For a name that is no device, or a device that this machine does not have.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cuda") and count:
        return torch.device("cuda", rank % count)
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # each backend has its own kind
        has = "cpu" + (f" and cuda:0 to cuda:{count - 1}" if count else " and no GPU")
        raise VitreousError(
            f"the device '{name}' cannot be used; expected auto, cpu, cuda or cuda:N (this machine "
            f"has {has})"
        ) from error
    return device
