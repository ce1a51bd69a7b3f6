"""Kill commands with SIGKILL at random points of their work, run them again, and compare.

    PYTHONPATH=tests python -m faults.kill --each 20

A point is a number of calls, or of files that were opened, renamed, removed or made, and follows
from the seed: it does not depend on how fast the machine is. Each run is a process of its own,
forked from one that has imported everything.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import json
import mmap
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch

from faults.bench import OUT, make_workplace, seed_of, tree
from vitreous.cli import main

COMMANDS = {
    "train": "train recipe.yaml --training.epochs 2 --training.checkpoint_every 1 --quiet "
    "--out out",
    "mask": "mask images --method png --masks masks --minimum-pixels 1 --batch-size 1 --out out",
    "evaluate": "evaluate model --data images --masks masks --no-removal --batch-size 2 "
    "--workers 0 --quiet --out out",
    "attack": "attack model --data images --steps 2 --epsilon 1/255 --batch-size 2 --workers 0 "
    "--quiet --out out",
    "activations": "brain score model --assembly brain/responses.npy --stimuli brain/stimuli "
    "--table brain/stimuli.csv --layers blocks.0 --metric ridge --splits 2 --batch-size 2 "
    "--cache out/cache --out out",
    "sweep": "sweep recipe.yaml --search training.seed=int:0:1 --trials 2 --quiet --out out",
}
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate")
# What differs between two runs that come to the same: times, processes, and who wrote it.
TIMES = {"seconds", "time", "when", "began", "started", "finished", "date", "provenance", "made"}
PASSED_OVER = (".lock", ".db", ".db-journal", ".pt", ".log")


def fork(arguments: list[str], root: Path, before: Callable[[], None]) -> tuple[int, str]:
    """Run a command in a process of its own; returns its status (-9: killed) and what it said.

    Args:
        arguments: The command.
        root: Folder to run it in.
        before: What is called in the process first.
    """
    return started(arguments, root, before)()


def started(
    arguments: list[str], root: Path, before: Callable[[], None]
) -> Callable[[], tuple[int, str]]:
    """Start a command in a process of its own; what is returned waits for its end, as `fork`."""
    said = tempfile.TemporaryFile()  # noqa: SIM115, closed by `ended`
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.chdir(root)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            # Readers know of `before`, too: Python 3.14 would start them from a server.
            multiprocessing.set_start_method("fork", force=True)
            before()
            status = main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.setprofile(None)
            os._exit(status)

    def ended() -> tuple[int, str]:
        with said:
            _, waited = os.waitpid(child, 0)
            said.seek(0)
            return os.waitstatus_to_exitcode(waited), said.read().decode(errors="replace")

    return ended


def warm(arguments: list[str], root: Path) -> None:
    """Import what a command imports late, so that no process forked from this one needs to.

    Points of a kill then lie in the work of the command, not in its imports.
    """
    with tempfile.TemporaryFile() as names:

        def note(event: str, said: tuple[object, ...]) -> None:
            if event == "import":
                os.write(names.fileno(), f"{said[0]}\n".encode())

        shutil.rmtree(root / OUT, ignore_errors=True)
        fork(arguments, root, lambda: sys.addaudithook(note))
        names.seek(0)
        late = dict.fromkeys(names.read().decode().split())
    with warnings.catch_warnings(action="ignore"):
        for name in [name for name in late if name not in sys.modules]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def counting(kind: str, reached: Callable[[int], None]) -> Callable[[], None]:
    """Make what counts, in a new process, calls of functions or events of files.

    Args:
        kind: `calls` or `files`.
        reached: Called with the count so far.
    """
    count = 0

    def more() -> None:
        nonlocal count
        count += 1
        reached(count)

    def profile(frame: object, event: str, argument: object) -> None:
        if event == "call":
            more()

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in EVENTS and OUT in str(arguments[0]):
            more()

    return lambda: sys.setprofile(profile) if kind == "calls" else sys.addaudithook(audit)


def kill_at(point: int) -> Callable[[int], None]:
    """End this process, as a power cut would, when a count is reached."""

    def reached(count: int) -> None:
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def length(kind: str, arguments: list[str], root: Path) -> int:
    """How many calls, or events of files, a whole run has."""
    shared = mmap.mmap(-1, 8)

    def reached(count: int) -> None:
        shared[:8] = count.to_bytes(8, "big")

    status, said = fork(arguments, root, counting(kind, reached))
    assert status == 0, said
    return int.from_bytes(shared[:8], "big")


def scrubbed(value: Any) -> Any:
    """A value without its times."""
    if isinstance(value, dict):
        return {k: scrubbed(v) for k, v in value.items() if k not in TIMES}
    return [scrubbed(v) for v in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, object]:
    """What a run left, times aside."""
    left: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.suffix in PASSED_OVER or path.name.startswith("events."):
            left |= {name: "there"} if path.is_file() and path.suffix == ".pt" else {}
        elif path.name.startswith(".vitreous-"):
            left[name] = "left half-written"
        elif path.suffix == ".json":
            left[name] = scrubbed(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            left[name] = [scrubbed(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".csv":
            left[name] = list(csv.reader(io.StringIO(path.read_text())))
        elif path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
            left[name] = {key: value.numpy().tobytes() for key, value in tensors.items()}
        else:
            left[name] = path.read_bytes()
    return left


def differences(first: dict[str, object], second: dict[str, object]) -> list[str]:
    """The files in which two runs differ."""
    names = sorted(first.keys() | second.keys())
    return [name for name in names if first.get(name) != second.get(name)]


def check(command: str, root: Path, each: int, seed: int = 0) -> list[str]:
    """Kill a command at some points, each time run it again and compare with a whole run.

    Returns:
        What was wrong, a line each.
    """
    arguments = shlex.split(COMMANDS[command])
    warm(arguments, root)
    inputs = tree(root)
    lengths = {kind: length(kind, arguments, root) for kind in _clean(root, ("calls", "files"))}
    whole = contents(root / OUT)
    draw, wrong = random.Random(seed + seed_of(command)), []
    for number in range(each):
        kind = ("files", "calls")[number % 2]
        point = draw.randint(1, lengths[kind])
        where = f"{command}, killed at {point} of {lengths[kind]} {kind}"
        shutil.rmtree(root / OUT, ignore_errors=True)
        status, said = fork(arguments, root, counting(kind, kill_at(point)))
        if status != -signal.SIGKILL and status != 0:
            wrong.append(f"{where}: status {status} before it: {said}")
        status, said = fork(arguments, root, lambda: None)
        if status != 0:
            wrong.append(f"{where}: the second run ended with {status}: {said}")
        elif found := differences(whole, contents(root / OUT)):
            wrong.append(f"{where}: {', '.join(found)} differ")
        if tree(root) != inputs:
            wrong.append(f"{where}: something outside {OUT} changed")
    shutil.rmtree(root / OUT, ignore_errors=True)
    return wrong


def _clean(root: Path, kinds: tuple[str, ...]) -> Any:
    for kind in kinds:
        shutil.rmtree(root / OUT, ignore_errors=True)
        yield kind


def run() -> int:
    """Check every command; returns how much was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(COMMANDS))
    asked = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        root = make_workplace(Path(folder))
        for command in asked.only:
            told = check(command, root, asked.each, asked.seed)
            print(
                f"{command}: {asked.each} kills, {len(told)} wrong", *told, sep="\n  ", flush=True
            )
            wrong += told
    return len(wrong)


if __name__ == "__main__":
    sys.exit(min(run(), 1))
