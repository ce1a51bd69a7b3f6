"""Time to the first word: `vitreous --help`, and `vitreous explain` of one image beyond torch.

    python benchmarks/startup.py

Each is a process of its own, in turns: told are medians of the wall clock with half of what lies
between the quartiles, of the processor's time, which others cannot lengthen as much, and, measured
apart, the most memory that the process holds. One image is explained by a small model, so that
start-up is all there is, and by one of the size that is used (DeiT-S at 224 px, random weights),
each from its folder; the alternative is timm alone (import, weights, a forward and a backward pass
of one image). The floor of the help is Python alone, that of the others `import torch`; its share
is its time over theirs. Goals: help 0.2 s, and either image 3 s beyond `import torch`.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

import vitreous
from memory import peak_of_command
from turns import medians, ratio, take_turns, told_spread
from vitreous.data.images import save_image

SMALL = {"image_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 16}
PLAIN = """
import sys, timm, torch
from safetensors.torch import load_file
net = timm.create_model(sys.argv[1]).eval()
net.load_state_dict(load_file(sys.argv[2]))
image = torch.rand(1, 3, *net.pretrained_cfg["input_size"][1:], requires_grad=True)
net(image).amax(1).sum().backward()
"""
FLOORS = {
    "vitreous --help": "python",
    "vitreous explain, small": "import torch",
    "timm alone": "import torch",
    "vitreous explain": "import torch",
}


@dataclasses.dataclass
class Settings:
    """Settings of the benchmark."""

    repeats: int = 5
    model: str = "deit_small_patch16_224"
    """The size that is used."""


def saved(name: str, folder: Path, **options: Any) -> Path:
    """A model with random weights in a folder."""
    vitreous.save_model(vitreous.load_model(name, pretrained=False, **options), folder)
    return folder


def commands(settings: Settings, folder: Path) -> dict[str, list[str]]:
    """What is started, by name."""
    small = saved("vit_tiny_patch16_224", folder / "small", **SMALL)
    large = saved(settings.model, folder / "large")
    image = save_image(torch.rand(3, 300, 400), folder / "a.png")
    cli, python = [sys.executable, "-m", "vitreous.cli"], [sys.executable, "-c"]

    def explain(model: Path) -> list[str]:
        out = str(folder / f"out {model.name}")
        return [*cli, "explain", str(image), "--model", str(model), "--overwrite", "--out", out]

    return {
        "python": [*python, "pass"],
        "vitreous --help": [*cli, "--help"],
        "import torch": [*python, "import torch"],
        "vitreous explain, small": explain(small),
        "timm alone": [*python, PLAIN, settings.model, str(large / "model.safetensors")],
        "vitreous explain": explain(large),
    }


def run(line: list[str], processor: list[float]) -> None:
    """Run a command; append the seconds of the processor that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(line, check=True, capture_output=True, env=os.environ)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor.append(spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime)


def main(settings: Settings) -> None:
    """Print a line for each command."""
    processor: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        lines = commands(settings, Path(name))
        work: dict[str, Callable[[], object]] = {
            what: partial(run, line, processor.setdefault(what, [])) for what, line in lines.items()
        }
        times = take_turns(work, settings.repeats)
        needed = {what: peak_of_command(line) for what, line in lines.items()}
    walls = medians(times)
    for what, wall in walls.items():
        told = f"{what:24} {wall:6.2f} s {told_spread(times[what]):>8}"
        told += f", processor {statistics.median(processor[what][1:]):6.2f} s"
        told += f", {needed[what]:6.0f} MiB"
        if what in FLOORS:
            told += f", floor's share {ratio(times, FLOORS[what], what):.2f} ({FLOORS[what]})"
        print(told)
    print(f"timm alone / vitreous explain {ratio(times, 'timm alone', 'vitreous explain'):.2f}")
    beyond = [walls[what] - walls["import torch"] for what in walls if "explain" in what]
    print(
        f"explain beyond torch: {beyond[1]:.2f} s, by the small model {beyond[0]:.2f} (goal 3); "
        f"help {walls['vitreous --help']:.2f} (0.2)"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
