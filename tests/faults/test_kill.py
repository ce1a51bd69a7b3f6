"""Killed at random points or stopped, and run again, commands end as if nothing had been."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from faults.bench import OUT, Bench
from faults.kill import COMMANDS, check, contents, counting, differences, fork, kill_at, started
from vitreous.data.stores.files import FileImages
from vitreous.evaluation.rows import RowStore
from vitreous.training.engine import Trainer

EACH = 2
"""Kills of each command here; `python -m faults.kill --each 20` makes more."""


pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_and_run_again_equals_unbroken(command: str, bench: Bench) -> None:
    assert check(command, bench.root, EACH) == []


class Whole(Bench):
    """A workplace for several tests, which knows what commands leave that nothing breaks."""

    def __init__(self, good: Path, root: Path):
        super().__init__(good, root)
        self.known: dict[str, dict[str, object]] = {}

    def unbroken(self, arguments: list[str]) -> dict[str, object]:
        """What a command leaves; it is run once, and `out` is cleared."""
        key = " ".join(arguments)
        self.clear()
        if key not in self.known:
            status, said = fork(arguments, self.root, lambda: None)
            assert status == 0, said
            self.known[key] = contents(self.root / OUT)
            self.clear()
        return self.known[key]


@pytest.fixture(scope="module")
def place(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(good, tmp_path_factory.mktemp("whole"))


def jump(seconds: float) -> Callable[[], None]:
    """Make what moves the clock of a new process."""
    now = time.time

    def move() -> None:
        time.time = lambda: now() + seconds

    return move


@pytest.mark.parametrize("days", [-400, 400])
@pytest.mark.parametrize("command", ["train", "mask", "evaluate"])
def test_a_clock_that_jumps_between_a_kill_and_the_next_run(
    command: str, days: int, place: Whole
) -> None:
    arguments = shlex.split(COMMANDS[command])
    whole = place.unbroken(arguments)
    assert fork(arguments, place.root, counting("files", kill_at(20)))[0] == -9
    status, said = fork(arguments, place.root, jump(86400 * days))
    assert status == 0, said
    assert differences(whole, contents(place.root / OUT)) == []


def die_in_a_worker() -> None:
    """Let a process that reads images for another end without a word."""
    original = FileImages.open

    def dying(self: FileImages, index: int) -> object:
        if torch.utils.data.get_worker_info() is not None:
            os._exit(9)
        return original(self, index)

    FileImages.open = dying


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_reading_process_that_dies_is_one_line_and_the_next_run_goes_on(
    command: str, place: Whole
) -> None:
    arguments = with_a_reader(command)
    whole = place.unbroken(arguments)
    status, said = fork(arguments, place.root, die_in_a_worker)
    assert status == 1 and said.startswith("vitreous: ") and said.count("\n") == 1, said
    status, said = fork(arguments, place.root, lambda: None)
    assert status == 0, said
    assert differences(whole, contents(place.root / OUT)) == []


def test_two_at_once_leave_what_one_leaves(place: Whole) -> None:
    arguments = shlex.split(COMMANDS["activations"])
    whole = place.unbroken(arguments)
    both = [started(arguments, place.root, lambda: None) for _ in range(2)]
    assert [status for status, _ in (wait() for wait in both)] == [0, 0]
    assert differences(whole, contents(place.root / OUT)) == []


def with_a_reader(command: str) -> list[str]:
    """A command whose images another process reads."""
    option = "--workers=1" if command == "evaluate" else "--training.workers=1"
    return [*shlex.split(COMMANDS[command].replace("--workers 0", "")), option]


def send(number: int) -> None:
    """Send a signal to all processes of a command, from a process beside them."""
    told, tell = os.pipe()
    sender = os.fork()
    if sender == 0:
        signal.signal(number, signal.SIG_IGN)
        os.read(told, 1)  # the command is done with this fork: what is raised in its hooks is lost
        os.killpg(0, number)
        time.sleep(0.1)  # so that readers that end by it have ended
        os._exit(0)
    os.write(tell, b".")
    os.waitpid(sender, 0)
    os.close(told)
    os.close(tell)


def stopped_by_hand(owner: type, method: str, times: int, number: int) -> Callable[[], None]:
    """Send a signal to a command and its readers, as a terminal does, when it has begun to work."""
    original, count = getattr(owner, method), 0

    def stopping(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == 2:
            for _ in range(times):
                send(number)
        return original(*arguments)

    def begin() -> None:
        os.setpgrp()
        setattr(owner, method, stopping)

    return begin


ONCE = "stopping after this step; Ctrl-C once more stops at once and loses it"
AT_ONCE = "vitreous: stopped at once; what was saved before is kept"


@pytest.mark.parametrize(
    ("command", "times", "number", "said"),
    [
        ("train", 1, signal.SIGINT, [ONCE, "vitreous: stopped at step 2 of 2, saved in out"]),
        ("train", 2, signal.SIGINT, [ONCE, AT_ONCE]),
        ("train", 2, signal.SIGTERM, [ONCE, "vitreous: stopped at step 2 of 2, saved in out"]),
        (
            "sweep",
            1,
            signal.SIGINT,
            [ONCE, "vitreous: stopped at step 1 of 1, saved in out/trial"],
        ),
        ("sweep", 2, signal.SIGINT, [ONCE, AT_ONCE]),
        ("evaluate", 1, signal.SIGINT, ["vitreous: interrupted; what was finished is kept"]),
        ("evaluate", 1, signal.SIGTERM, ["vitreous: ended by a signal; what was finished"]),
    ],
)
def test_stopped_by_hand_with_reading_processes(
    command: str,
    times: int,
    number: int,
    said: list[str],
    place: Whole,
) -> None:
    work = (RowStore, "append") if command == "evaluate" else (Trainer, "step")
    arguments = with_a_reader(command)
    whole = place.unbroken(arguments)
    status, told = fork(arguments, place.root, stopped_by_hand(*work, times, number))
    lines = told.splitlines()
    assert status == 128 + number and len(lines) == len(said), told
    assert all(line.startswith(begin) for line, begin in zip(lines, said)), told
    status, told = fork(arguments, place.root, lambda: None)
    assert status == 0, told
    assert differences(whole, contents(place.root / OUT)) == []


STARTING = """
import multiprocessing, sys
from torch.utils.data import dataloader
from faults.test_kill import send
from vitreous.cli import main

multiprocessing.set_start_method(sys.argv[1])
started = dataloader._MultiProcessingDataLoaderIter.__init__

def starting(*arguments):
    started(*arguments)
    dataloader._MultiProcessingDataLoaderIter.__init__ = started
    send(int(sys.argv[2]))  # the reader is importing now

dataloader._MultiProcessingDataLoaderIter.__init__ = starting
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("start", "number"),
    [
        ("forkserver", signal.SIGTERM),
        pytest.param("spawn", signal.SIGINT, marks=pytest.mark.long),
    ],
)
def test_readers_that_are_just_starting_outlive_what_is_sent_to_all(
    start: str, number: int, place: Whole
) -> None:
    """As on macOS (spawn) and on Linux from Python 3.14 on (a server of forks)."""
    place.clear()
    program = [sys.executable, "-c", STARTING, start, str(int(number)), *with_a_reader("train")]
    places = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places}
    run = subprocess.run(
        program,
        cwd=place.root,
        env=environment,
        start_new_session=True,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 128 + number, run.stderr
    said = run.stderr.splitlines()[-1]
    assert said.startswith("vitreous: stopped at step 1 of "), run.stderr
