"""Generated input, always with the same property: accepted, or one line and status 1.

Nothing outside `out` is made, changed or removed, no program runs, and memory stays under a bound.

    pytest tests/faults/test_hostile_input.py                          # 2,000 cases
    HYPOTHESIS_PROFILE=long pytest tests/faults/test_hostile_input.py  # 100,000
    HOSTILE_CASES=500 pytest … -k tables                               # any number, of one kind
"""

from __future__ import annotations

import os
import resource
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from faults.bench import Bench, call, changes, tree
from faults.strategies import KINDS, Hostile

CASES = {"default": 2_000, "long": 100_000}[os.environ.get("HYPOTHESIS_PROFILE", "default")]
EACH = int(os.environ.get("HOSTILE_CASES") or -(-CASES // len(KINDS)))
MOST_MEMORY = 2 << 30
"""Bytes beyond what the process has at the start."""
LONG = EACH > 1000


@pytest.fixture(scope="module")
def place(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(good, tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module", autouse=True)
def bounded() -> Iterator[None]:
    """Let the process take so much more than it has; beyond it is a failure."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        bound = pages * resource.getpagesize() + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (bound, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


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


@pytest.mark.timeout(0 if LONG else 300)
@pytest.mark.parametrize("kind", KINDS)
def test_generated_input_is_accepted_or_told_in_one_line(kind: str, place: Bench) -> None:
    count = 0

    @settings(
        max_examples=EACH,
        deadline=None,
        database=None,
        derandomize=not LONG,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind])
    def check(hostile: Hostile) -> None:
        nonlocal count
        count += 1
        hold(hostile, place)

    begun = time.monotonic()
    check()
    print(f"{kind}: {count} cases, {time.monotonic() - begun:.0f} s")
