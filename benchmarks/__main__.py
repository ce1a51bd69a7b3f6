"""All benchmarks by one command: each in its turn on a quiet machine, told in one page.

    python -m benchmarks                           # all that need nothing but this checkout
    python -m benchmarks --only relevance scaling
    python -m benchmarks --model MODEL --images IMAGES --photographs PHOTOGRAPHS --others OTHERS

Each case is one script, run as its own command in a process of its own; what it compares, with what
and to which floor is told at the head of that script. Before a case the machine must be quiet: a
case is left out where it does not become so. While a case runs, the processor time of others is
counted; where it is more than a tenth of the machine, nothing is concluded: neither what the case
printed nor its drawing is kept, and what a quiet machine gave before stays. Writes
`benchmarks/results.json` and `benchmarks/RESULTS.md`, which keep what other machines gave.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch

from vitreous.io import atomic_path, write_json, write_text
from vitreous.provenance import hardware, hardware_text, versions

HERE = Path(__file__).parent
BUSY = 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    """One script with its options.

    Attributes:
        name: As `--only` calls it.
        question: What it answers.
        options: Of the script; those in PLACES stand for what the command line says.
        gpu: Whether it says something only on a GPU.
        figure: Its drawing, from this folder.
        script: Its file, where that is not its name.
    """

    name: str
    question: str
    options: tuple[str, ...] = ()
    gpu: bool = False
    figure: str = ""
    script: str = ""

    @property
    def line(self) -> list[str]:
        """The command."""
        return ["python", f"benchmarks/{self.script or self.name}.py", *self.options]


PLACES = {
    "MODEL": "folder of a trained classifier",
    "IMAGES": "its images, classes as folders",
    "PHOTOGRAPHS": "any photographs, as JPEG files",
    "OTHERS": "folder with the packages that are compared with, as their scripts say",
}


CASES = (
    Case("relevance", "maps and training step: the published formulation, the floor, bfloat16"),
    Case(
        "relevance_memory",
        "memory and time of relevance against recorded maps, by tokens",
        ("--repeats", "3", "--sizes", "384", "512", "768", "1024"),
    ),
    Case(
        "relevance_memory_crossvit",
        "the same of a CrossViT: two streams of tokens",
        ("--model", "crossvit_small_240", "--repeats", "3", "--sizes", "480", "720"),
        script="relevance_memory",
    ),
    Case(
        "precision",
        "what bfloat16 gains and changes",
        ("--model", "MODEL", "--images", "IMAGES", "--count", "128", "--repeats", "3"),
    ),
    Case(
        "evaluation",
        "input against timm's loader, the whole against the bare forward pass",
        ("--data", "PHOTOGRAPHS", "--images", "320", "--rounds", "3"),
    ),
    Case(
        "input_training",
        "training's input against timm's training loader",
        ("--data", "PHOTOGRAPHS", "--images", "480"),
    ),
    Case(
        "input_training_large",
        "the same, of photographs of 2,000 × 1,500 pixels",
        ("--data", "PHOTOGRAPHS", "--images", "128", "--size", "2000", "1500", "--rounds", "3"),
        script="input_training",
    ),
    Case(
        "methods",
        "explanation methods against captum, pytorch-grad-cam and legrad-torch",
        ("--packages", "OTHERS", "--batch", "1", "--repeats", "2"),
    ),
    Case(
        "adversarial",
        "the adversarial step against the published formulation and its floor",
        (
            *("--models", "vit_tiny_patch16_224", "--packages", "OTHERS"),
            *("--images", "48", "--seeds", "1"),
        ),
    ),
    Case(
        "brain",
        "PLS against scikit-learn, ridge regression against himalaya",
        ("--units", "1000", "--threads", "1", "--packages", "OTHERS"),
    ),
    Case(
        "activations",
        "activations and PLS end to end against timm's hooks, a DataLoader and scikit-learn's PLS",
        ("--model", "MODEL", "--images", "PHOTOGRAPHS"),
    ),
    Case(
        "attacks",
        "attacks against torchattacks, foolbox and AutoAttack's port on photographs",
        (
            *("--model", "MODEL", "--images", "IMAGES", "--packages", "OTHERS"),
            *("--count", "24", "--batch", "24", "--queries", "100", "--rounded-queries", "150"),
            *("--repeats", "2", "--rounded", "bfloat16"),
        ),
    ),
    Case("training", "the whole of training against its bare step, on generated scenes"),
    Case(
        "training_photographs",
        "the whole of training against its bare step, from files of photographs and masks",
        (
            *("--data", "PHOTOGRAPHS", "--size", "224", "--batch", "8"),
            *("--steps", "6", "--repeats", "5"),
        ),
        script="training",
    ),
    Case(
        "compiled",
        "a step of RobustViT's objectives compiled into one graph, against the step as it is",
        ("--compiled", "--steps", "5", "--repeats", "4"),
        script="training",
    ),
    Case(
        "cost",
        "how cost grows: with the batch, tokens, layers, images and features",
        figure="../docs/images/cost.png",
    ),
    Case("startup", "time and memory to the first word and to one explained image"),
    Case("scaling", "one process and two, by command"),
    Case(
        "relevance_gpu",
        "maps and training step on a GPU",
        ("--device", "cuda", "--batch", "64", "--repeats", "20"),
        gpu=True,
        script="relevance",
    ),
    Case(
        "relevance_memory_gpu",
        "memory and time of relevance against recorded maps on a GPU, by tokens",
        ("--device", "cuda", "--repeats", "5"),
        gpu=True,
        script="relevance_memory",
    ),
    Case(
        "precision_gpu",
        "what bfloat16 gains and changes on a GPU",
        ("--device", "cuda", "--model", "MODEL", "--images", "IMAGES"),
        gpu=True,
        script="precision",
    ),
    Case(
        "methods_gpu",
        "explanation methods against others' on a GPU",
        ("--device", "cuda", "--packages", "OTHERS", "--batch", "16"),
        gpu=True,
        script="methods",
    ),
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


def ended(program: list[str]) -> tuple[int, str, str, resource.struct_rusage]:
    """Run a program: its status, what it printed, and what it and its children used."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
    ):
        child = subprocess.Popen(program, cwd=HERE.parent, stdout=out, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), errors.seek(0)
        return child.returncode, out.read(), errors.read(), usage


def run(case: Case, line: list[str]) -> dict[str, object]:
    """Run one case; what it printed, how long it took, and how busy others kept the machine."""
    began, machine = time.monotonic(), used()
    returned, out, errors, usage = ended([sys.executable, *line[1:]])
    seconds = time.monotonic() - began
    others = (used() - machine) - (usage.ru_utime + usage.ru_stime)
    told = out if returned == 0 else errors[-2000:]
    return {
        "command": " ".join(case.line),
        "status": returned,
        "seconds": round(seconds, 1),
        "peak": round(usage.ru_maxrss / 1024),
        "others": round(max(0.0, others) / seconds / (os.cpu_count() or 1), 3),
        "output": told.replace(f"{HERE.parent}/", "").strip(),
        "machine": hardware_text(hardware()),
        "versions": [f"{name} {number}" for name, number in versions().items()],
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def kept(result: dict[str, object]) -> dict[str, object]:
    """What is kept of a run: of one on a busy machine why there are no figures, and no figures."""
    others = float(str(result.get("others", 0.0)))
    if others <= BUSY or result.get("status"):
        return result
    why = f"others had {others:.0%} of the processors"
    return {"command": result["command"], "busy": why}


def state(result: dict[str, object]) -> str:
    """One sentence before the output of a case."""
    result = kept(result)
    if result.get("left_out"):
        return f"**Not run**: {result['left_out']}."
    if result.get("busy"):
        return f"**The machine was busy**, {result['busy']}: nothing is concluded, no figure kept."
    if result.get("status"):
        return f"**Ended with {result['status']}**: nothing is concluded."
    share = f"{float(str(result['others'])):.1%}"
    took = f"{result['when']}, {result['machine']}, {result['seconds']} s"
    if "peak" in result:
        took += f", {result['peak']} MiB at the peak"
    told = f"{took}; others took {share} of the processors."
    packages = result.get("versions")
    return f"{told} {', '.join(packages)}." if isinstance(packages, list) else told


def page(results: dict[str, dict[str, dict[str, object]]]) -> str:
    """The page of all cases; each says on which machine it ran."""
    lines = ["# Benchmarks", "", "All of it: `python -m benchmarks`.", ""]
    for case in CASES:
        lines += [f"## {case.name}", "", f"{case.question}", ""]
        never = "no machine that was at hand has a GPU" if case.gpu else "not yet, on any machine"
        for result in map(kept, results.get(case.name, {"": {"left_out": never}}).values()):
            command = result.get("command", " ".join(case.line))
            lines += [f"`{command}`", "", state(result).strip(), ""]
            if result.get("output"):
                lines += ["```", str(result["output"]), "```", ""]
            if case.figure and result.get("output") and not result.get("status"):
                lines += [f"![{case.question}]({case.figure})", ""]
    return "\n".join(lines)


def reason_to_leave_out(case: Case, line: list[str], patience: float) -> str:
    """Why a case is not run, or nothing."""
    if case.gpu and not torch.cuda.is_available():
        return "it needs a GPU, and there is none"
    if missing := [f"--{name.lower()}" for name in PLACES if name in line]:
        return f"it needs {' and '.join(missing)}"
    return "" if wait_until_quiet(patience) else "the machine was busy"


def add(of_case: dict[str, dict[str, object]], machine: str, result: dict[str, object]) -> None:
    """Keep a result of a machine; one without figures replaces none that has some."""
    if result.get("busy"):
        of_case.setdefault(machine, result)
    else:
        of_case[machine] = result


def drawing(case: Case) -> bytes | None:
    """The drawing of a case as it is, where there is one."""
    file = HERE / case.figure
    return file.read_bytes() if file.is_file() else None


def put_back(case: Case, before: bytes | None) -> None:
    """Make the drawing of a case what it was before a run of which nothing is concluded."""
    if before is not None:
        with atomic_path(HERE / case.figure) as temporary:
            temporary.write_bytes(before)
    elif case.figure:
        (HERE / case.figure).unlink(missing_ok=True)


def main() -> None:
    """Run the cases and write the page after each, so that what ran is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    for name, meaning in PLACES.items():
        parser.add_argument(f"--{name.lower()}", help=meaning)
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for quiet")
    given = parser.parse_args()
    file = HERE / "results.json"
    results: dict[str, dict[str, dict[str, object]]] = {}
    if file.is_file():
        results = json.loads(file.read_text())
    machine = hardware_text(hardware())
    for case in (case for case in CASES if case.name in given.only):
        places = {name: getattr(given, name.lower()) for name in PLACES}
        line = [places.get(part) or part for part in case.line]
        print(f"{case.name} …", end=" ", flush=True)
        of_case = results.setdefault(case.name, {})
        if why := reason_to_leave_out(case, line, given.patience):
            result: dict[str, object] = {"left_out": why}
            of_case.setdefault(machine, result)
        else:
            before = drawing(case)
            result = kept(run(case, line))
            if result.get("status") or result.get("busy"):
                put_back(case, before)
            add(of_case, machine, result)
        print(state(result), flush=True)
        write_json(file, results)
        write_text(HERE / "RESULTS.md", page(results))
    print(HERE / "RESULTS.md")


if __name__ == "__main__":
    main()
