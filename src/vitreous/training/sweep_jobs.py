"""Several workers of one sweep on one machine: each a process with its share of cores and GPUs.

They agree by the study and its locks, as workers of several machines do; what is here starts them,
starts one anew that was killed, and lets all save when the whole is asked to stop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from vitreous.errors import InterruptedRun, VitreousError
from vitreous.training.interrupt import StopRequest
from vitreous.training.sweep_trials import Search, work

RESTARTS = 3
VISIBLE = "CUDA_VISIBLE_DEVICES"


def work_together(search: Search, jobs: int) -> None:
    """Work on the trials of a search in several processes, until none is left.

    Raises:
        VitreousError: What a worker was ended by; or if workers were killed again and again.
        InterruptedRun: If a signal asked for it, with the state of each trial saved.
    """
    with StopRequest() as stop, _ended() as workers:
        workers += [_Worker.start(search, number, jobs) for number in range(jobs)]
        restarts = 0
        while workers:
            wait([worker.process.sentinel for worker in workers], timeout=0.2)
            if stop.signal is not None:
                break
            for worker in [worker for worker in workers if worker.over]:
                workers.remove(worker)
                if worker.killed and restarts < RESTARTS:
                    restarts += 1
                    print(f"worker {worker.number} was killed; started again", file=sys.stderr)
                    workers.append(_Worker.start(search, worker.number, jobs))
                elif problem := worker.problem():
                    raise VitreousError(problem)
    if stop.signal is not None:
        raise stop.stopped(f"stopped {jobs} workers, saved in {search.out}")


@contextlib.contextmanager
def _ended() -> Generator[list[_Worker]]:
    """A list of workers, none of which outlives the context: they save, and end."""
    workers: list[_Worker] = []
    try:
        yield workers
        _join(workers)
    except InterruptedRun:  # Ctrl-C once more: at once
        for worker in workers:
            worker.process.kill()
        raise
    finally:
        _join(workers)


def _join(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join()


@dataclasses.dataclass
class _Worker:
    """A process that works on trials.

    Attributes:
        number: From 0.
        process: The process.
        told: Where it says what went wrong.
    """

    number: int
    process: SpawnProcess
    told: Connection

    @classmethod
    def start(cls, search: Search, number: int, jobs: int) -> _Worker:
        """Start a process."""
        # A fork of a process that has used torch may hang.
        context = multiprocessing.get_context("spawn")
        told, tells = context.Pipe(duplex=False)
        process = context.Process(target=_inside, args=(search, number, jobs, tells))
        process.start()
        tells.close()
        return cls(number, process, told)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.process.exitcode is not None

    @property
    def killed(self) -> bool:
        """Whether a signal ended it."""
        return self.over and int(self.process.exitcode or 0) < 0

    def problem(self) -> str:
        """What it was ended by, in one line; empty where it found nothing more to do."""
        if self.process.exitcode == 0:
            return ""
        if self.killed:
            return (
                f"workers were killed {RESTARTS + 1} times, perhaps for want of memory; run the "
                "same command again, with fewer --jobs"
            )
        with contextlib.suppress(EOFError):
            if self.told.poll():
                return str(self.told.recv())
        return f"worker {self.number} ended with {self.process.exitcode}"


def _inside(search: Search, number: int, jobs: int, tells: Connection) -> None:
    """What a worker does."""
    if hasattr(os, "setpgrp"):  # Ctrl-C goes to the first process, which tells the others
        os.setpgrp()
    threading.Thread(target=_outlived, daemon=True).start()
    take_share(number, jobs)
    try:
        work(search, bars=False)
    except (InterruptedRun, VitreousError) as end:
        with contextlib.suppress(OSError):  # who asked may be gone
            tells.send(str(end))
        sys.exit(end.status if isinstance(end, InterruptedRun) else 1)


def take_share(number: int, jobs: int) -> None:
    """Take a share of the machine's cores, and one of its GPUs, unless the environment says."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    count = torch.cuda.device_count()
    if count > 1:
        visible = os.environ.get(VISIBLE, ",".join(map(str, range(count)))).split(",")
        os.environ[VISIBLE] = visible[number % len(visible)]


def _outlived() -> None:
    """Save and stop if the process that started this one is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
