"""Killed at random points and run again, every command comes to what it comes to unbroken."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable

import pytest
import torch

from faults.bench import OUT, Bench
from faults.kill import COMMANDS, check, contents, counting, differences, fork, kill_at
from vitreous.data.stores.files import FileImages

EACH = 2
"""Kills of each command here; `python -m faults.kill --each 20` makes more."""


pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_and_run_again_equals_unbroken(command: str, bench: Bench) -> None:
    assert check(command, bench.root, EACH) == []


def jump(seconds: float) -> Callable[[], None]:
    """Make what moves the clock of a new process."""
    now = time.time

    def move() -> None:
        time.time = lambda: now() + seconds

    return move


@pytest.mark.parametrize("days", [-400, 400])
@pytest.mark.parametrize("command", ["train", "mask", "evaluate"])
def test_a_clock_that_jumps_between_a_kill_and_the_next_run(
    command: str, days: int, bench: Bench
) -> None:
    arguments = shlex.split(COMMANDS[command])
    assert fork(arguments, bench.root, lambda: None)[0] == 0
    whole = contents(bench.root / OUT)
    bench.clear()
    assert fork(arguments, bench.root, counting("files", kill_at(20)))[0] == -9
    status, said = fork(arguments, bench.root, jump(86400 * days))
    assert status == 0, said
    assert differences(whole, contents(bench.root / OUT)) == []


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
    command: str, bench: Bench
) -> None:
    option = "--training.workers=1" if command == "train" else "--workers=1"
    arguments = [*shlex.split(COMMANDS[command].replace("--workers 0", "")), option]
    assert fork(arguments, bench.root, lambda: None)[0] == 0
    whole = contents(bench.root / OUT)
    bench.clear()
    status, said = fork(arguments, bench.root, die_in_a_worker)
    assert status == 1 and said.startswith("vitreous: ") and said.count("\n") == 1, said
    status, said = fork(arguments, bench.root, lambda: None)
    assert status == 0, said
    assert differences(whole, contents(bench.root / OUT)) == []
