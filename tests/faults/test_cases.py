"""The table of cases: kind × input → the line that is expected.

`cases/*.yaml` hold them. A kind has the file that is spoilt, the commands that read it, and inputs
by name; an input says what the file holds (`text`, `lines`, `json`, `row`, `hex`, an encoding, or
`make`: a function of `faults.contents`), or is a whole command, and what is `said`: how the line
begins, after `vitreous: `. `accepted` means status 0; a list has one for each command.

`paths.yaml` holds every option that takes a path, with its command, `{}` in the path's place, and
what is said of each of `PLACES`. What the command line says of all of them is in `LINES`, with the
option's name as it is `called`; a kind says only what differs.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from faults.bench import Bench, call
from faults.contents import contents_of

FOLDER = Path(__file__).parent / "cases"
PATHS = FOLDER / "paths.yaml"
PLACES = {
    "nothing there": "nothing",
    "no name": "",
    "a name too long": "x" * 300,
    "links in a circle": "loop",
    "a device": "/dev/zero",
    "a pipe": "pipe",
    "the home of nobody": "~nobody-at-all/x",
    "a NUL": "a\0b",
    "an empty folder": "empty_folder",
    "an empty file": "empty_file",
    "below a file": "table.csv/x",
    "a way back": "nowhere/../images",
}
LINES = {
    "no name": "{called} is empty; give a name or a path",
    "a name too long": "{called}: xxxxxxxxxx",
    "links in a circle": "{called}: loop cannot be a path: Too many levels of symbolic links",
    "a device": "{called}: /dev/zero is a device or a pipe, expected a file or a folder",
    "a pipe": "{called}: pipe is a device or a pipe, expected a file or a folder",
    "the home of nobody": "{called}: nobody has the home of ~nobody-at-all/x; give the whole path",
    "a NUL": "{called}: expected a path, found a NUL character in it",
    "a way back": "{called}: nowhere/../images goes back out of nowhere, which is not there; give",
}


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
    for path in sorted(set(FOLDER.glob("*.yaml")) - {PATHS}):
        for kind in yaml.safe_load(path.read_text(encoding="utf-8")):
            for name, spec in kind["inputs"].items():
                commands = [spec["command"]] if "command" in spec else kind["commands"]
                said = spec.get("said", "")
                lines = said if isinstance(said, list) else [said] * len(commands)
                about = {key: kind[key] for key in ("file", "before", "spoil") if key in kind}
                for command, line in zip(commands, lines, strict=True):
                    yield Case(kind["kind"], name, command, line, spec=spec, **about)


def read_paths() -> Iterator[Case]:
    """The cases of paths; their commands hold `{}`."""
    for kind in yaml.safe_load(PATHS.read_text(encoding="utf-8")):
        said = {name: line.format(called=kind["called"]) for name, line in LINES.items()}
        for name, line in {**said, **kind["said"]}.items():
            yield Case(kind["kind"], name, kind["command"], line)


CASES = list(read_cases())
OF_PATHS = list(read_paths())


def test_the_table_is_as_long_as_it_was() -> None:
    assert len(CASES) + len(OF_PATHS) >= 1501
    assert all(case.said for case in CASES + OF_PATHS)
    assert len({str(case) for case in OF_PATHS}) == len(OF_PATHS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_input_is_accepted_or_told_in_its_line(case: Case, bench: Bench) -> None:
    case.spoil_files(bench)
    hold_to_its_line(case, shlex.split(case.command), bench)


@pytest.fixture(scope="module")
def with_odd_places(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(good, tmp_path_factory.mktemp("paths"))
    (bench.root / "loop").symlink_to("loop")
    os.mkfifo(bench.root / "pipe")
    (bench.root / "empty_folder").mkdir()
    (bench.root / "empty_file").touch()
    return bench


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
@pytest.mark.parametrize("case", OF_PATHS, ids=str)
def test_each_path_is_told_in_its_line(case: Case, with_odd_places: Bench) -> None:
    words = [PLACES[case.name] if word == "{}" else word for word in shlex.split(case.command)]
    try:
        hold_to_its_line(case, words, with_odd_places)
    finally:
        with_odd_places.clear()


def hold_to_its_line(case: Case, words: list[str], bench: Bench) -> None:
    outcome = bench.run(words)
    if case.said == "accepted":
        assert outcome.status == 0, outcome.line
    else:
        assert outcome.status == 1, f"accepted: {outcome.shown}"
        line = outcome.line.replace(f"{bench.root.resolve()}/", "")
        assert line.removeprefix("vitreous: ").startswith(case.said)
