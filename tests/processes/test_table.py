"""A short form of `table.py`: two processes give what one gives, also after one of them died.

All commands run in one launch, and each once in one process. Of what is measured by the one loop of
the evaluation, one command is killed; `table.py` kills each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import table
from processes.cases import PASSES, Case, Outcome, kept, prepare
from processes.launch import Launch, launch_all
from processes.table import KILLED
from vitreous.cli import main

BROKEN = ("mask", "attack")
SHORT = (
    "relevance",
    "RRR",
    "joint, masks for some",
    "accumulation",
    "shards",
    "FGSM, carried over",
    "mixup and cutmix",
    "tar files",
)
NAMES = [*(f"train, {name}" for name in SHORT), "mask", "evaluate", "attack", "brain"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("table")


@pytest.fixture(scope="module")
def cases(root: Path) -> dict[str, Case]:
    return {case.name: case for case in prepare(root, SHORT)}


@pytest.fixture(scope="module")
def launched(root: Path, cases: dict[str, Case]) -> dict[str, Launch]:
    """All cases in one launch of two processes, the second of which dies in the last command."""
    commands = [case.line(root / "two" / name) for name, case in cases.items()]
    killed = cases[KILLED].line(root / "killed")
    came = launch_all(root / "notes", [*commands, killed], dies=(1, 2))
    return dict(zip([*cases, "killed"], came))


@pytest.fixture(scope="module")
def alone(root: Path, cases: dict[str, Case]) -> Callable[[str], Outcome]:
    """What one process makes of a case."""

    @functools.cache
    def outcome(name: str) -> Outcome:
        assert main(cases[name].line(root / "one" / name)) == 0
        return cases[name].read(root / "one" / name)

    return outcome


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_give_what_one_gives(
    name: str,
    root: Path,
    cases: dict[str, Case],
    launched: dict[str, Launch],
    alone: Callable[[str], Outcome],
    recwarn: pytest.WarningsRecorder,
) -> None:
    case, came = cases[name], launched[name]
    assert came.code == 0, came.messages[-2000:]
    assert came.seen == [2, 2]
    one, two = alone(name), case.read(root / "two" / name)
    assert two.rows == one.rows and one.rows
    assert one.difference(two) <= case.tolerance
    if name.startswith("train"):
        first, second = came.written_in(root / "two" / name)
        assert root / "two" / name / "metrics.jsonl" in first and not second
    if name == "mask":
        first, second = came.written_in(root / "two" / name)
        assert all(file.suffix == ".png" for file in second) and second
        assert not first & second


def test_killed_in_two_processes_and_gone_on_with_in_one(
    root: Path,
    cases: dict[str, Case],
    launched: dict[str, Launch],
    alone: Callable[[str], Outcome],
) -> None:
    case = cases[KILLED]
    assert launched["killed"].code
    assert main(case.line(root / "killed")) == 0
    one, two = alone(KILLED), case.read(root / "killed")
    assert two.rows == one.rows and one.difference(two) <= case.tolerance


@pytest.mark.long
@pytest.mark.parametrize("name", BROKEN)
def test_measuring_is_killed_in_two_processes_and_goes_on_in_one(
    name: str,
    root: Path,
    cases: dict[str, Case],
    alone: Callable[[str], Outcome],
    recwarn: pytest.WarningsRecorder,
) -> None:
    case, out = cases[name], root / "broken" / name
    (came,) = launch_all(root / f"notes_{name}", [case.line(out)], dies=(1, PASSES[name]))
    assert came.code and kept(out), "nothing was killed, or nothing had been done"
    assert main(case.line(out)) == 0
    one, two = alone(name), case.read(out)
    assert two.rows == one.rows and one.rows
    assert one.difference(two) <= case.tolerance


def test_a_table_without_the_training_that_is_killed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "prepare", lambda root, trained: [])
    monkeypatch.setattr(table, "launch_all", lambda folder, commands, world: [])
    assert table.measure(tmp_path, [1], ["relevance"]) == []
    assert capsys.readouterr().err.splitlines() == [
        f"nothing is killed in the middle: --trained lacks '{KILLED}'"
    ]
