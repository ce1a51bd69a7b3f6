"""What a process that reads images for another does first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def leave_ending_to_the_parent(worker: int) -> None:
    """Ignore Ctrl-C; have SIGTERM end this process only where the one that it reads for sends it.

    Clusters and shells send both to all processes of a command at once. The command then finishes
    its step and saves, for which it needs its readers, and ends them itself.

    Args:
        worker: Number of the process, as a `DataLoader` gives it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()  # a server of forks may stand between
    if parent is None or not hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(parent.pid,), daemon=True).start()


def _end_with(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
