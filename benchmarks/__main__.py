"""All benchmarks by one command: each in its turn on a quiet machine, told in one page.

    python -m benchmarks                           # all that need nothing but this checkout
    python -m benchmarks --only relevance scaling
    python -m benchmarks --model MODEL --images IMAGES   # with those that need photographs

Each case is one script, run as its own command in a process of its own; what it compares, with what
and to which floor is told at the head of that script. Before a case the machine must be quiet: a
case is left out where it does not become so. While a case runs, the processor time of others is
counted; where it is more than a tenth of the machine, nothing is concluded, and the page says so.
Writes `benchmarks/results.json` and `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch

from vitreous.io import write_json, write_text
from vitreous.provenance import hardware, hardware_text, versions

HERE = Path(__file__).parent
BUSY = 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    """One script with its options.

    Attributes:
        name: As `--only` calls it.
        question: What it answers.
        options: Of the script; MODEL and IMAGES are those of the command line.
        gpu: Whether it says something only on a GPU.
        figure: Its drawing, from this folder.
    """

    name: str
    question: str
    options: tuple[str, ...] = ()
    gpu: bool = False
    figure: str = ""

    @property
    def line(self) -> list[str]:
        """The command."""
        return ["python", f"benchmarks/{self.name}.py", *self.options]


CASES = (
    Case("relevance", "maps and training step: the published formulation, the floor, bfloat16"),
    Case(
        "relevance_memory",
        "memory and time of relevance against recorded maps, by tokens",
        ("--repeats", "2", "--sizes", "512", "768", "1024"),
    ),
    Case(
        "precision",
        "what bfloat16 gains and changes",
        ("--model", "MODEL", "--images", "IMAGES"),
    ),
    Case("evaluation", "input against timm's loader, the whole against the bare forward pass"),
    Case(
        "adversarial",
        "the adversarial step against the published formulation and its floor",
        ("--models", "vit_tiny_patch16_224"),
    ),
    Case("brain", "PLS against scikit-learn", ("--units", "1000", "--threads", "1")),
    Case(
        "attacks",
        "attacks against others' on photographs",
        ("--model", "MODEL", "--images", "IMAGES"),
    ),
    Case("training", "the whole of training against its bare step"),
    Case(
        "cost",
        "how cost grows: with the batch, tokens, layers, images and features",
        figure="../docs/images/cost.png",
    ),
    Case("startup", "time to the first word"),
    Case("scaling", "one process and two, by command"),
)


def busy_share(seconds: float = 2.0) -> float:
    """The share of the processors that is in use, by anyone."""
    return psutil.cpu_percent(interval=seconds) / 100


def wait_until_quiet(patience: float) -> bool:
    """Wait for the machine; false where it stayed busy for `patience` seconds."""
    until = time.monotonic() + patience
    while busy_share() > BUSY:
        if time.monotonic() > until:
            return False
    return True


def used() -> float:
    """Seconds of processor time that the whole machine has worked since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def children() -> float:
    """Seconds of processor time of the cases that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def run(case: Case, line: list[str]) -> dict[str, object]:
    """Run one case; what it printed, how long it took, and how busy others kept the machine."""
    began, machine, own = time.monotonic(), used(), children()
    program = [sys.executable, *line[1:]]
    ended = subprocess.run(program, cwd=HERE.parent, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    others = (used() - machine) - (children() - own)
    told = ended.stdout if ended.returncode == 0 else ended.stdout + ended.stderr[-2000:]
    return {
        "command": " ".join(case.line),
        "question": case.question,
        "figure": case.figure,
        "status": ended.returncode,
        "seconds": round(seconds, 1),
        "others": round(max(0.0, others) / seconds / (os.cpu_count() or 1), 3),
        "output": told.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def state(result: dict[str, object]) -> str:
    """One sentence before the output of a case."""
    if result.get("left_out"):
        return f"**Not run**: {result['left_out']}."
    if result["status"]:
        return f"**Ended with {result['status']}**: nothing is concluded."
    if float(str(result["others"])) > BUSY:
        return "**The machine was busy with other work**: nothing is concluded."
    share = f"{float(str(result['others'])):.1%}"
    return f"{result['when']}, {result['seconds']} s; others took {share} of the processors."


def page(results: dict[str, dict[str, object]], machine: dict[str, object]) -> str:
    """The page of all cases."""
    described = hardware_text(machine)
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    lines = ["# Benchmarks", "", f"`python -m benchmarks` on {described}; {packages}.", ""]
    for name, result in results.items():
        lines += [f"## {name}", "", f"{result['question']}: `{result['command']}`", ""]
        lines += [state(result), ""]
        if result.get("output"):
            lines += ["```", str(result["output"]), "```", ""]
        if result.get("figure") and not result.get("status"):
            lines += [f"![{result['question']}]({result['figure']})", ""]
    return "\n".join(lines)


def reason_to_leave_out(case: Case, line: list[str], patience: float) -> str:
    """Why a case is not run, or nothing."""
    if case.gpu and not torch.cuda.is_available():
        return "it needs a GPU, and there is none"
    if not {"MODEL", "IMAGES"}.isdisjoint(line):
        return "it needs --model and --images"
    return "" if wait_until_quiet(patience) else "the machine was busy"


def main() -> None:
    """Run the cases and write the page after each, so that what ran is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--model", help="folder of a trained classifier")
    parser.add_argument("--images", help="its images, classes as folders")
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for quiet")
    given = parser.parse_args()
    file = HERE / "results.json"
    results: dict[str, dict[str, object]] = json.loads(file.read_text()) if file.is_file() else {}
    for case in (case for case in CASES if case.name in given.only):
        places = {"MODEL": given.model, "IMAGES": given.images}
        line = [places.get(part) or part for part in case.line]
        print(f"{case.name} …", end=" ", flush=True)
        if why := reason_to_leave_out(case, line, given.patience):
            shown: dict[str, object] = {
                "command": " ".join(case.line),
                "question": case.question,
                "left_out": why,
            }
            results.setdefault(case.name, shown)
        else:
            results[case.name] = run(case, line)
        print(state(results[case.name]), flush=True)
        write_json(file, results)
        write_text(HERE / "RESULTS.md", page(results, hardware()))
    print(HERE / "RESULTS.md")


if __name__ == "__main__":
    main()
