"""A process that reads images ends by the word of the process that it reads for, and no other."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time

import pytest

from vitreous.data.reading_process import leave_ending_to_the_parent

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system tells no sender"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
ELSEWHERE = "import os, sys; os.kill(int(sys.argv[1]), int(sys.argv[2]))"


def read(ready) -> None:
    leave_ending_to_the_parent(0)
    ready.set()
    time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_only_the_parent_ends_a_reading_process(number: int) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    reader = context.Process(target=read, args=(ready,), daemon=True)
    reader.start()
    assert ready.wait(60)
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(reader.pid), str(int(number))], check=True)
    reader.join(0.3)
    assert reader.is_alive()
    reader.terminate()
    reader.join(60)
    assert reader.exitcode == 0
