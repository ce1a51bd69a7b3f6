"""A forward pass in a process that keeps freed memory, as the commands do, and in another one.

    python benchmarks/allocator.py

The two processes take turns. Beside the seconds stand the pages that a pass asks the system for and
the process's peak.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import time

import torch
import tyro

import vitreous
from turns import medians, ratio, spread
from vitreous.allocator import SETTINGS, keep_freed_memory

KINDS = ("kept", "given back")


@dataclasses.dataclass
class Arguments:
    """Settings of the benchmark."""

    model: str = "vit_small_patch16_224"
    batch: int = 32
    repeats: int = 9
    threads: int = 2
    kind: str = ""
    """Answer for one kind, a line for each line that is read."""


def answer(arguments: Arguments) -> None:
    """Make a pass for each line, and print seconds, pages and the peak in MiB."""
    if arguments.kind == KINDS[0]:
        keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    classifier = vitreous.load_model(arguments.model, pretrained=False).eval()
    images = torch.rand(arguments.batch, 3, *classifier.preprocessing.size)
    for _ in sys.stdin:
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        with torch.inference_mode():
            classifier(images)
        seconds, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        pages = now.ru_minflt - before.ru_minflt
        print(json.dumps([seconds, pages, now.ru_maxrss / 1024]), flush=True)


def main(arguments: Arguments) -> None:
    """Let both take turns, and print a line for each."""
    if arguments.kind:
        answer(arguments)
        return
    options = [f"--{name}={value}" for name, value in vars(arguments).items() if name != "kind"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS)}
    program = [sys.executable, __file__, *options]
    processes = {
        kind: subprocess.Popen(
            [*program, f"--kind={kind}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean,
        )
        for kind in KINDS
    }
    told: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for turn in range(arguments.repeats + 2):
        for kind in KINDS[:: 1 if turn % 2 else -1]:
            asked, answers = processes[kind].stdin, processes[kind].stdout
            assert asked is not None and answers is not None
            asked.write("\n")
            asked.flush()
            line = json.loads(answers.readline())
            if turn > 1:
                told[kind].append(line)
    for process in processes.values():
        process.communicate()
    times = {kind: [seconds for seconds, _, _ in lines] for kind, lines in told.items()}
    print(f"{arguments.model}, batch {arguments.batch}, {arguments.threads} threads")
    for kind, seconds in medians(times).items():
        _, pages, peak = sorted(told[kind])[len(told[kind]) // 2]
        print(
            f"  {kind:11} {seconds:6.3f} s ±{spread(times[kind]):4.0%}, {pages:,.0f} pages a pass, "
            f"{peak:,.0f} MiB at the peak"
        )
    print(f"  kept / given back = {ratio(times, *KINDS):.2f}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
