"""Let a fuzzer that watches which code is reached choose the hostile input of one kind.

    PYTHONPATH=tests python -m faults.fuzz manifests -runs=100000

The rest of the line are options of libFuzzer. Needs atheris, which has wheels for few systems; the
strategies and the property are those of `test_hostile_input.py`.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings

from faults.bench import Bench, make_workplace
from faults.holding import bounded, hold
from faults.strategies import KINDS, Hostile


def fuzzed(kind: str, place: Bench) -> Callable[[bytes], bytes | None]:
    """Make what turns bytes into input of a kind and holds it to the property."""

    @settings(deadline=None, database=None)
    @given(KINDS[kind])
    def check(hostile: Hostile) -> None:
        hold(hostile, place)

    return check.hypothesis.fuzz_one_input


def run() -> None:
    """Fuzz until a failure, or the number of runs that is asked."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("faults.fuzz needs atheris, which is not installed")
    kind, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, bounded():
        place = Bench(make_workplace(Path(folder) / "good"), Path(folder) / "place")
        atheris.instrument_all()
        atheris.Setup([sys.argv[0], *options], fuzzed(kind, place))
        atheris.Fuzz()


if __name__ == "__main__":
    run()
