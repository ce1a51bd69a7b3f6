"""The console command ends at once, and loses nothing by it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import atexit, sys, threading, time
import vitreous.cli as cli

def work(name, arguments):
    def late():
        time.sleep(0.3)
        print("thread")
    threading.Thread(target=late).start()
    atexit.register(lambda: print("atexit"))
    sys.stderr.write("no line feed")
    print("work")
    return {status}

class Costly:
    def __del__(self):
        print("torn down")

cli.run = work
cli.kept = Costly()
cli.script()
"""


def ended(status: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process that runs `script` with a command that returns a status."""
    line = [sys.executable, "-c", CODE.replace("{status}", str(status)), *arguments]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(line, capture_output=True, text=True, env=buffered)


@pytest.mark.parametrize("status", [0, 3])
def test_threads_are_waited_for_and_what_was_printed_is_flushed(status: int) -> None:
    run = ended(status, "report")
    assert run.stdout.splitlines() == ["work", "thread", "atexit"]
    assert (run.stderr, run.returncode) == ("no line feed", status)


def test_a_mistake_has_its_status() -> None:
    run = ended(0, "reprot")
    assert run.returncode == 1
    assert run.stderr.startswith("vitreous: unknown command 'reprot'") and not run.stdout
