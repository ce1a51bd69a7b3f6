"""What the environment says of a launch by `torchrun` or `accelerate launch`."""

from __future__ import annotations

import os

import torch

from vitreous.errors import VitreousError


def world_size() -> int:
    """How many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def without_accelerator() -> bool:
    """Whether several processes share a machine that has the CPU alone.

    Accelerate has to be told so (`cpu=True`): left to itself it takes each of them for a single
    one under `torchrun`, and each would write the same files.
    """
    return world_size() > 1 and not torch.accelerator.is_available()


def check_world(count: int) -> None:
    """Refuse to go on where Accelerate joined another number of processes than were started.

    Args:
        count: How many processes Accelerate sees.

    Raises:
        VitreousError: If the launcher started another number.
    """
    if count != world_size():
        raise VitreousError(
            f"the launcher started {world_size()} processes (WORLD_SIZE), but Accelerate sees "
            f"{count}: they would write over each other; start them with torchrun or accelerate "
            "launch on one kind of device, or unset WORLD_SIZE"
        )
