"""The table of cases: kind × input → the line that is expected.

`cases/*.yaml` hold them. A kind has the file that is spoilt, the commands that read it, and inputs
by name; an input says what the file holds (`text`, `lines`, `json`, `row`, `hex`, an encoding, or
`make`: a function of `faults.contents`), or is a whole command, and what is `said`: how the line
begins, after `vitreous: `. `accepted` means status 0; a list has one for each command.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from faults.bench import Bench, call
from faults.contents import contents_of

FOLDER = Path(__file__).parent / "cases"


@dataclasses.dataclass(frozen=True)
class Case:
    """One input for one command.

    Attributes:
        kind: What is spoilt.
        name: How.
        command: What is run.
        said: How the line begins; `accepted` where there is none.
        file: What is written before, if anything, relative to the workplace.
        spec: What it holds.
        before: A command that is run first.
        spoil: A pattern for the files that are spoilt, where their names are not known.
    """

    kind: str
    name: str
    command: str
    said: str
    file: str = ""
    spec: dict[str, Any] = dataclasses.field(default_factory=dict)
    before: str = ""
    spoil: str = ""

    def __str__(self) -> str:
        """The case as the tests are called."""
        return f"{self.kind}: {self.name} ({' '.join(self.command.split()[:1])})"

    def spoil_files(self, bench: Bench) -> None:
        """Write the bad file."""
        if self.before:
            done = call(shlex.split(self.before), bench.root)
            assert done.status == 0, done.line
        if not self.file:
            return
        paths = [bench.root / self.file]
        if self.spoil:
            paths = sorted(bench.root.glob(self.spoil))
            paths = [path for path in paths if path.is_file()]
            assert paths, f"nothing fits {self.spoil}"
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents_of(self.spec))


def read_cases() -> Iterator[Case]:
    """All cases of the table."""
    for path in sorted(FOLDER.glob("*.yaml")):
        for kind in yaml.safe_load(path.read_text(encoding="utf-8")):
            for name, spec in kind["inputs"].items():
                commands = [spec["command"]] if "command" in spec else kind["commands"]
                said = spec.get("said", "")
                lines = said if isinstance(said, list) else [said] * len(commands)
                about = {key: kind[key] for key in ("file", "before", "spoil") if key in kind}
                for command, line in zip(commands, lines, strict=True):
                    yield Case(kind["kind"], name, command, line, spec=spec, **about)


CASES = list(read_cases())


def test_the_table_is_as_long_as_it_was() -> None:
    assert len(CASES) > 500 and all(case.said for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_input_is_accepted_or_told_in_its_line(case: Case, bench: Bench) -> None:
    case.spoil_files(bench)
    outcome = bench.run(shlex.split(case.command))
    if case.said == "accepted":
        assert outcome.status == 0, outcome.line
    else:
        assert outcome.status == 1, f"accepted: {outcome.shown}"
        line = outcome.line.replace(f"{bench.root.resolve()}/", "")
        assert line.removeprefix("vitreous: ").startswith(case.said)
