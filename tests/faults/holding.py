"""Hold generated input to the property, and memory under a bound."""

from __future__ import annotations

import contextlib
import copy
import resource
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from faults.bench import Bench, call, changes, tree
from faults.strategies import Hostile
from vitreous import cli

if TYPE_CHECKING:
    from vitreous.commands.parsing import Runnable

MOST_MEMORY = 2 << 30
"""Bytes beyond what the process has at the start."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Let the process take so much more than it has; beyond it is a failure."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        bound = pages * resource.getpagesize() + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (bound, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


class Parsed:
    """Parses each line of a command once: where files are hostile, thousands of cases share one."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, ...], Runnable] = {}
        self.parse = cli.read_command

    def __call__(self, name: str, arguments: list[str]) -> Runnable:
        """Give a command of one's own."""
        line = (name, *arguments)
        if line not in self.known:
            self.known[line] = self.parse(name, arguments)
        return copy.deepcopy(self.known[line])


PARSED = Parsed()


def hold(hostile: Hostile, place: Bench) -> None:
    """Write the files, run the command, and put everything back."""
    replaced = {name: _content(place.root / name) for name in hostile.files}
    try:
        for name, content in hostile.files.items():
            path = place.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        before = tree(place.root)
        separated = "\x1f" in hostile.command
        words = hostile.command.split("\x1f") if separated else shlex.split(hostile.command)
        with (
            contextlib.nullcontext()
            if separated
            else mock.patch.object(cli, "read_command", PARSED)
        ):
            outcome = call(words, place.root)
        assert outcome.status in (0, 1), outcome.line
        if outcome.status:
            assert outcome.line.startswith("vitreous: "), outcome.line
            assert outcome.line.count("\n") == 1, outcome.line
        assert not changes(before, tree(place.root))
    finally:
        place.clear()
        for name, content in replaced.items():
            if content is not None:
                (place.root / name).write_bytes(content)
            else:
                (place.root / name).unlink(missing_ok=True)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
