"""Which of several processes this is, under `accelerate launch` or `torchrun`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from vitreous.processes import check_world, without_accelerator, world_size


def _nothing() -> None:
    """A single process waits for nobody."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among several.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
        wait: Blocks until all have come here.
    """

    rank: int = 0
    count: int = 1
    wait: Callable[[], None] = _nothing

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
        VitreousError: If Accelerate joins another number of processes than were started.
    """
    if world_size() < 2:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=cpu or without_accelerator())
    check_world(state.num_processes)
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone)
