"""Start commands in real processes by torchrun, joined by gloo on the CPU."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

INSIDE = Path(__file__).with_name("inside.py")


@dataclasses.dataclass(frozen=True)
class Launch:
    """What came of a command in several processes.

    Attributes:
        code: Highest exit code, of the processes or of their launcher.
        messages: What they wrote to the standard error stream.
        seen: Processes that Accelerate saw, in each.
        written: Files that each wrote.
    """

    code: int
    messages: str
    seen: list[int | None]
    written: list[set[Path]]

    def written_in(self, folder: Path) -> list[set[Path]]:
        """Files in a folder that each process wrote, temporary ones (`.NAME`) left out."""
        return [
            {p for p in paths if p.is_relative_to(folder) and not p.name.startswith(".")}
            for paths in self.written
        ]


def launch(notes: Path, *command: str, processes: int = 2) -> Launch:
    """Run `vitreous COMMAND…` in some processes under torchrun.

    Args:
        notes: A folder to be made, where each process leaves what it saw.
        command: The command line.
        processes: How many.
    """
    (came,) = launch_all(notes, [command], processes)
    return came


def launch_all(
    notes: Path,
    commands: Sequence[Sequence[str]],
    processes: int = 2,
    *,
    dies: tuple[int, int] | None = None,
) -> list[Launch]:
    """Run commands in turn in the same processes, which saves starting them anew.

    Args:
        notes: A folder to be made, where each process leaves what it saw.
        commands: The command lines.
        processes: How many.
        dies: Rank that is killed during the last command, and before which step of a training, or
            after how many passes through the model.
    """
    program, environment = prepare_launch(notes, commands, processes, dies)
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    return told_of(done, notes, len(commands))


def prepare_launch(
    notes: Path,
    commands: Sequence[Sequence[str]],
    processes: int,
    dies: tuple[int, int] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Write down what a launch is to do; returns its command line and environment."""
    notes.mkdir(parents=True)
    ports = free_ports(len(commands))
    planned = [{"command": [*c], "port": p, "dies": None} for c, p in zip(commands, ports)]
    if dies is not None:
        planned[-1]["dies"] = dies
    plan = {"processes": processes, "commands": planned}
    (notes / "plan.json").write_text(json.dumps(plan))
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program += ["--nproc-per-node", str(processes), str(INSIDE), str(notes)]
    return program, {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def told_of(done: subprocess.CompletedProcess[str], notes: Path, count: int) -> list[Launch]:
    """What the processes of a launch told of its commands."""
    told = [json.loads(file.read_text()) for file in sorted(notes.glob("[0-9]*.json"))]
    return [_came(done, [own[n : n + 1] for own in told]) for n in range(count)]


def _came(done: subprocess.CompletedProcess[str], told: list[list[dict[str, Any]]]) -> Launch:
    """What came of one command; a process that died during it told nothing."""
    there = [came for own in told for came in own]
    whole = len(there) == len(told) > 0
    code = max(came["code"] for came in there) if whole else done.returncode or 1
    written = [{Path(p) for p in came["written"]} for came in there]
    return Launch(code, done.stderr, [came["processes"] for came in there], written)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for own in sockets:
            own.bind(("127.0.0.1", 0))
        return [own.getsockname()[1] for own in sockets]
