"""The tutorials run from their first cell to their last, and hold what came."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat and nbclient")

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
RUN = "import pathlib, sys, execute; execute.execute(pathlib.Path(sys.argv[1]))"


def test_there_is_one_for_each_reader() -> None:
    assert [path.stem for path in TUTORIALS] == [
        "misbehaving_classifier",
        "own_recordings",
        "two_trainings",
    ]


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path: Path) -> None:
    """In a process of its own, offline; under a minute on a core of one's own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "docs"), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_holds_what_came_and_is_small(path: Path) -> None:
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    printed = [c for c in cells if "print(" in c.source or c.source.endswith("show(model)")]
    assert len(printed) >= 4 and all(c.outputs for c in printed)
    assert not [o for c in cells for o in c.outputs if o.output_type == "error"]
    assert path.stat().st_size < 600_000
