"""Which of several processes this is, under `torchrun` or `accelerate launch`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import torch

from vitreous.errors import VitreousError

MEETING = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def world_size() -> int:
    """How many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_launcher() -> None:
    """Refuse a launcher that says how many processes there are, and not where they meet.

    Raises:
        VitreousError: Says which variables are missing.
    """
    if world_size() < 2:
        return
    missing = [name for name in MEETING if name not in os.environ]
    if missing:
        raise VitreousError(
            f"WORLD_SIZE says {world_size()} processes, but {', '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} not set, so that each would take itself for "
            "the only one; start them with torchrun, or unset WORLD_SIZE"
        )


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


def _nothing() -> None:
    """A single process waits for nobody."""


def _own(values: list[Any]) -> list[Any]:
    """A single process has all values."""
    return values


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among several.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
        wait: Blocks until all have come here.
        gather: Lists of all processes as one, by rank; blocks likewise.
    """

    rank: int = 0
    count: int = 1
    wait: Callable[[], None] = _nothing
    gather: Callable[[list[Any]], list[Any]] = _own

    @property
    def main(self) -> bool:
        """Whether this is the one that writes results."""
        return self.rank == 0


ALONE = Processes()


def current_processes(cpu: bool = False) -> Processes:
    """Join the other processes of this launch; one alone where there are none.

    Args:
        cpu: Compute on the CPU even where there is a GPU.

    Raises:
        VitreousError: If Accelerate joins another number of processes than were started, or the
            launcher does not say where they meet.
    """
    if world_size() < 2:
        return ALONE
    check_launcher()
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState(cpu=cpu or without_accelerator())
    check_world(state.num_processes)
    return Processes(
        state.process_index, state.num_processes, state.wait_for_everyone, gather_object
    )
