"""Disks that are really full, as far as the system lets a test make one."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path


class SmallDisk:
    """A file system of a few megabytes that can be filled and freed.

    Args:
        path: Where it is mounted.
    """

    words = ("No space left on device", "free some space")

    def __init__(self, path: Path):
        self.path = path

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is left inside the block."""
        self.fill()
        try:
            yield
        finally:
            self.free()

    def fill(self) -> None:
        with (self.path / ".filler").open("wb", buffering=0) as file:
            size = 1 << 16
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        (self.path / ".filler").unlink(missing_ok=True)


class LimitedFiles(SmallDisk):
    """A folder in which files may have no bytes while it is full."""

    words = ("File too large", "raise the limit")

    def fill(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))

    def free(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[bool]:
    """Mount a file system in memory, if this system lets us; says whether it did."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    try:
        done = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    done = done and os.path.ismount(path)
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(path)], check=True)
