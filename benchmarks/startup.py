"""Time to the first word: `vitreous --help`, and `vitreous explain` of one image beyond torch.

    python benchmarks/startup.py

Each is a process of its own, in turns; medians of the wall clock, and of the processor's time,
which others cannot lengthen as much. The model is a small one that is made for it. Goals: 0.2 s,
and 3 s beyond `import torch`.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import tyro

import vitreous
from vitreous.data.images import save_image


@dataclasses.dataclass
class Settings:
    """Settings of the benchmark."""

    repeats: int = 5


def measure(line: list[str]) -> tuple[float, float]:
    """Seconds of the wall and of the processor that a command takes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(line, check=True, capture_output=True, env=os.environ)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, processor


def main(settings: Settings) -> None:
    """Print a line for each command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {"image_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 16}
        model = vitreous.load_model("vit_tiny_patch16_224", pretrained=False, **options)
        vitreous.save_model(model, folder / "model")
        image = save_image(torch.rand(3, 80, 96), folder / "a.png")
        explain = ["explain", str(image), "--model", str(folder / "model"), "--overwrite"]
        cli = [sys.executable, "-m", "vitreous.cli"]
        lines = {
            "vitreous --help": [*cli, "--help"],
            "import torch": [sys.executable, "-c", "import torch"],
            "vitreous explain": [*cli, *explain, "--out", str(folder / "out")],
        }
        taken: dict[str, list[tuple[float, float]]] = {what: [] for what in lines}
        for _ in range(settings.repeats + 1):
            for what, line in lines.items():
                taken[what].append(measure(line))
    walls = {}
    for what, times in taken.items():
        wall, processor = (statistics.median(kind) for kind in zip(*times[1:]))
        walls[what] = wall
        print(f"{what:17} {wall:6.2f} s, processor {processor:6.2f} s")
    beyond = walls["vitreous explain"] - walls["import torch"]
    print(
        f"explain beyond torch: {beyond:.2f} s (goal 3); help {walls['vitreous --help']:.2f} (0.2)"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
