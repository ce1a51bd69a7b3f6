"""Generated input, always with the same property: accepted, or one line and status 1.

Nothing outside `out` is made, changed or removed, no program runs, and memory stays under a bound.

    pytest tests/faults/test_hostile_input.py                          # 2,000 cases
    HYPOTHESIS_PROFILE=long pytest tests/faults/test_hostile_input.py  # 100,000
    HOSTILE_CASES=500 pytest … -k tables                               # any number, of one kind
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from faults.bench import Bench
from faults.holding import bounded, hold
from faults.strategies import KINDS, Hostile

CASES = {"default": 2_000, "long": 100_000}[os.environ.get("HYPOTHESIS_PROFILE", "default")]
EACH = int(os.environ.get("HOSTILE_CASES") or -(-CASES // len(KINDS)))
LONG = EACH > 1000


@pytest.fixture(scope="module")
def place(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(good, tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    with bounded():
        yield


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
