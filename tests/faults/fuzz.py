"""Let a fuzzer that watches which code is reached choose the hostile input of one kind.

    PYTHONPATH=tests python -m faults.fuzz manifests -runs=100000

The rest of the line are options of libFuzzer. Needs atheris (`pip install atheris`); the strategies
and the property are those of `test_hostile_input.py`. Only the code of vitreous is watched: to
watch torch's as well takes longer than the fuzzing.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings

if TYPE_CHECKING:
    from faults.bench import Bench
    from faults.strategies import Hostile


def fuzzed(kind: str, place: Bench) -> Callable[[bytes], bytes | None]:
    """Make what turns bytes into input of a kind and holds it to the property."""
    from faults.holding import hold
    from faults.strategies import KINDS

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
    with atheris.instrument_imports(include=["vitreous"]):  # also what a command imports late
        from faults.bench import Bench, make_workplace
        from faults.holding import bounded

        with tempfile.TemporaryDirectory() as folder, bounded():
            place = Bench(make_workplace(Path(folder) / "good"), Path(folder) / "place")
            atheris.Setup([sys.argv[0], *options], fuzzed(kind, place))
            atheris.Fuzz()


if __name__ == "__main__":
    run()
