"""Killed at random points and run again, every command comes to what it comes to unbroken."""

from __future__ import annotations

import os

import pytest

from faults.bench import Bench
from faults.kill import COMMANDS, check

EACH = 2
"""Kills of each command here; `python -m faults.kill --each 20` makes more."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_and_run_again_equals_unbroken(command: str, bench: Bench) -> None:
    assert check(command, bench.root, EACH) == []
