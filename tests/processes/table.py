"""Every command that works on many images, on 1, 2 and 4 processes: what differs.

    python tests/processes/table.py --out docs/results/processes.md

All commands of one number of processes run in one launch of torchrun. Then a training is killed on
one rank of two and goes on in another number of processes, and so is each command that measures.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from processes.cases import PASSES, TRAINED, Case, kept, prepare
from processes.launch import Launch, launch_all

KILLED = "train, FGSM, carried over"
BESIDE = Path(__file__).with_name("beside.md")


@dataclasses.dataclass(frozen=True)
class Line:
    """One command on all numbers of processes.

    Attributes:
        name: What was run.
        codes: Exit codes.
        rows: Whether the rows are the same, in each number but the first.
        differences: From the first number, in each other.
        tolerance: What is rounding.
    """

    name: str
    codes: list[int]
    rows: list[bool]
    differences: list[float]
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether all numbers of processes give the same."""
        near = all(difference <= self.tolerance for difference in self.differences)
        return not any(self.codes) and all(self.rows) and near


def measure(root: Path, worlds: Sequence[int], trained: Sequence[str]) -> list[Line]:
    """Run all commands in all numbers of processes, 1 first; and kill one."""
    cases = prepare(root, trained)
    came = {}
    lines: list[Line] = []
    for place, world in enumerate(worlds, 1):
        commands = [case.line(root / str(world) / case.name) for case in cases]
        came[world] = launch_all(root / f"notes{world}", commands, world)
        seen = {number for launch in came[world] for number in launch.seen}
        assert seen <= ({world} if world > 1 else {1, None}), seen
        there = worlds[:place]
        lines = [
            compare(case, root, there, [came[w][n] for w in there]) for n, case in enumerate(cases)
        ]
        print(text(lines, there), flush=True)
    killed = [case for case in cases if case.name == KILLED]
    if not killed:
        print(f"nothing is killed in the middle: --trained lacks '{KILLED}'", file=sys.stderr)
    ends = ((1, 1), (0, worlds[-1]))
    others = [go_on(case, root, rank, world) for case in killed for rank, world in ends]
    measuring = [case for case in cases if case.name in PASSES]
    others += [go_on(case, root, 1, worlds[-1], PASSES[case.name]) for case in measuring]
    return [*lines, *others]


def compare(case: Case, root: Path, worlds: Sequence[int], came: Sequence[Launch]) -> Line:
    """Compare what a case left with what one process left."""
    codes = [launch.code for launch in came]
    if any(codes):
        print(next(launch for launch in came if launch.code).messages[-3000:], file=sys.stderr)
        return Line(case.name, codes, [], [], case.tolerance)
    first, *others = (case.read(root / str(world) / case.name) for world in worlds)
    same = [other.rows == first.rows for other in others]
    return Line(case.name, codes, same, [first.difference(o) for o in others], case.tolerance)


def go_on(case: Case, root: Path, rank: int, world: int, step: int = 2) -> Line:
    """Kill one rank of two in the middle, and go on with another number of processes."""
    out = root / f"killed {rank} {case.name}"
    notes = root / f"notes {rank} {case.name}"
    broken = launch_all(notes / "killed", [case.line(out)], 2, dies=(rank, step))[0]
    assert broken.code, "nothing was killed"
    assert case.name not in PASSES or kept(out), "nothing had been done"
    (whole,) = launch_all(notes / "on", [case.line(out)], world)
    name = f"{case.name}; rank {rank} of 2 killed, gone on with {world}"
    if whole.code:
        print(whole.messages[-3000:], file=sys.stderr)
        return Line(name, [whole.code], [], [], case.tolerance)
    first, other = case.read(root / "1" / case.name), case.read(out)
    rows = [first.rows == other.rows]
    return Line(name, [whole.code], rows, [first.difference(other)], case.tolerance)


def text(lines: Sequence[Line], worlds: Sequence[int]) -> str:
    """The page."""
    head = [
        "# One process or several",
        "",
        f"`python tests/processes/table.py` on {platform.system()} {platform.machine()}, CPU, gloo,"
        f" processes started by torchrun: {', '.join(map(str, worlds))}. The difference is the",
        "largest from one process: of weights after an epoch of SGD at rate 0.1 (12 images in",
        "batches of 5, 5 and 2), of records, of activations. Rows: lines of metrics, rows of the",
        "manifest, records with their n.",
        "",
        "| command | exit codes | same rows | largest difference | allowed | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    body = [
        f"| {line.name} | {', '.join(map(str, line.codes))} | "
        f"{', '.join('yes' if same else 'no' for same in line.rows)} | "
        f"{', '.join(f'{d:.1e}' for d in line.differences)} | {line.tolerance:.0e} | "
        f"{'holds' if line.holds else '**does not hold**'} |"
        for line in lines
    ]
    return "\n".join([*head, *body, "", BESIDE.read_text()])


def main() -> int:
    """Measure, write the page; 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trained", nargs="+", choices=list(TRAINED), default=list(TRAINED))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(Path(folder), given.worlds, given.trained)
    page = text(lines, given.worlds)
    print(page)
    if given.out is not None:
        given.out.write_text(page)
    return int(not all(line.holds for line in lines))


if __name__ == "__main__":
    sys.exit(main())
