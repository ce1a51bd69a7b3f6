"""How processes that read images for another are started, and what they do first."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from multiprocessing import resource_tracker

ENDINGS = {signal.SIGINT, signal.SIGTERM}


@contextlib.contextmanager
def endings_held_back(workers: int) -> Generator[None]:
    """Start readers in this block: they begin with Ctrl-C and SIGTERM blocked.

    One that is forked has its parent's handlers until it knows better. One that is spawned, or
    started by a server of forks (Python 3.14), imports for seconds with none, and so has the
    server. What comes to this process meanwhile is delivered at the end of the block.

    Args:
        workers: How many are started; with none nothing is held back.
    """
    if not workers or not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    if multiprocessing.get_start_method() != "fork":
        resource_tracker.ensure_running()  # its start would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_ending_to_the_parent(worker: int) -> None:
    """Ignore Ctrl-C; have SIGTERM end this process only where the one that it reads for sends it.

    Clusters and shells send both to all processes of a command at once. The command then finishes
    its step and saves, for which it needs its readers, and ends them itself.

    Args:
        worker: Number of the process, as a `DataLoader` gives it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()  # a server of forks may stand between
    if parent is None or not hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(parent.pid,), daemon=True).start()


def _end_with(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
