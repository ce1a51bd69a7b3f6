"""Which device a name means on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from vitreous.errors import VitreousError

if TYPE_CHECKING:
    import torch


MOST_WORKERS = 16


def resolve_workers(
    workers: int | Literal["auto"], device: torch.device, processes: int = 1
) -> int:
    """How many processes read images beside each model.

    `auto` follows from the processors that this process may use. A GPU leaves them free: all but
    one of each model's share read, 16 at most. On a CPU the model wants them itself: two readers
    keep up with it, and where it has no more than two processors they would only take them from
    it (0.93 in place of 0.96 of the bare forward pass; `benchmarks/evaluation.py --part whole`).

    Args:
        workers: A number, which stays as it is, or `auto`.
        device: Where the model is.
        processes: How many models share the machine.

    Examples:
        >>> import torch
        >>> resolve_workers(3, torch.device("cpu"))
        3
        >>> resolve_workers("auto", torch.device("cpu")) in (0, 2)
        True
    """
    if workers != "auto":
        return workers
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = max(1, cores // max(1, processes))
    if device.type == "cpu":
        return 0 if share <= 2 else 2
    return min(MOST_WORKERS, max(1, share - 1))


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
        if device.type == "meta" or (device.type == "cpu" and device.index):
            raise ValueError("it holds no numbers, or is not there")
        torch.empty(0, device=device)
    except Exception as error:  # each backend has its own kind
        has = "cpu" + (f" and cuda:0 to cuda:{count - 1}" if count else " and no GPU")
        raise VitreousError(
            f"the device '{name}' cannot be used; expected auto, cpu, cuda or cuda:N (this machine "
            f"has {has})"
        ) from error
    return device
