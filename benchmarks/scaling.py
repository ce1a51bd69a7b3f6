"""Images a second on one and on several processes of one thread each, and what communication takes.

    python benchmarks/scaling.py                                       # on an idle machine
    python benchmarks/scaling.py --rounds 1 --images 16 --steps 2 --size 32 --depth 2   # to see it

The model is a ViT-Ti of that depth, with the same weights each time. What a command does once (read
the model, open its records) counts for it as for its user: with few images or a tiny network that
is what one measures. For `train` a step is timed with the exchange of gradients and without it; the
difference is the share of communication. One process and several take turns; told are medians over
the rounds, of rates (with half of what lies between the quartiles) and of the ratios within a
round, with the least and the largest ratio, the floor's share (how much of the bare pass's own gain
a command has), and the peak of the first process's memory beyond what was there before.

The floor is what the machine itself gives: the bare forward pass in as many processes that know
nothing of each other. Where two of those are not twice as fast as one (shared caches, memory, a
clock that falls under load), nothing else can be.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import memory
from turns import told_spread

WARM = 8
"""Images on which a command is run before it counts."""
BARE = "bare forward, apart"
IMAGES = "IMAGES"
"""Stands in a command line for the folder of images."""


def prepare(root: Path, images: int, size: int, depth: int) -> dict[str, Any]:
    """Write images with masks and a model; returns the recipe of the training."""
    from vitreous.models import load_model, save_model

    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    for number in range(images):
        mask = np.zeros((size, size), np.uint8)
        mask[size // 4 : size // 2, size // 4 : size // 2] = 255
        pixels = generator.integers(0, 255, (size, size, 3), dtype=np.uint8)
        for kind, array in (("images", pixels), ("masks", mask), ("few", pixels)):
            if kind == "few" and number >= WARM:
                continue
            file = root / kind / f"c{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file)
    shape = {"depth": depth}
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=2, image_size=size, **shape
    )
    save_model(model, root / "model")
    return {
        "model": {
            "name": "vit_tiny_patch16_224",
            "pretrained": False,
            "image_size": size,
            "options": shape,
        },
        "data": {"name": "folders", "images": str(root / "images"), "masks": str(root / "masks")},
        "transforms": {
            "train": {"center_crop": {"size": size}},
            "validation": {"center_crop": {"size": size}},
        },
        "objectives": {"classification": {}, "relevance": {}},
        "training": {"epochs": 1, "batch_size": 16, "trackers": [], "samples": 0},
    }


def train_steps(recipe: dict[str, Any], out: Path, steps: int) -> dict[str, float]:
    """Images a second of training steps, and the share of the exchange of gradients."""
    from vitreous.config import build
    from vitreous.data.loading import load_batches
    from vitreous.training import Recipe
    from vitreous.training.engine import Trainer

    trainer = Trainer(build(Recipe, recipe), out, quiet=True)
    size = min(trainer.settings.batch_size, len(trainer.train_data))
    whole = list(range(size))
    (batch,) = load_batches(trainer.train_data, [trainer.optimize.own_share(whole)], 0)
    trainer.model.train()
    times: dict[str, list[float]] = {"with": [], "without": []}
    before = 0.0
    for number in range(steps + 1):
        before = memory.reset() if number == 1 else before
        for kind, spent in times.items():
            alone = trainer.accelerator.no_sync(trainer.model)
            trainer.accelerator.wait_for_everyone()
            began = time.perf_counter()
            with alone if kind == "without" else contextlib.nullcontext():
                trainer.step(batch, whole)
            spent.append(time.perf_counter() - began)
    # The first of each kind warms up.
    together, apart = (statistics.median(spent[1:]) for spent in times.values())
    trainer.accelerator.end_training()
    return {
        "images_a_second": size / together,
        "communication": max(0.0, 1 - apart / together),
        "mebibytes": memory.high_water() - before,
    }


def command(line: list[str], root: Path, out: Path, images: int) -> dict[str, float]:
    """Images a second of a whole command, after it was run on some images."""
    from vitreous.cli import main

    seconds = before = 0.0
    for place in ("few", "images"):
        before = memory.reset()
        began = time.perf_counter()
        given = [str(root / place) if word == IMAGES else word for word in line]
        with contextlib.redirect_stdout(io.StringIO()):
            code = main([*given, "--out", str(out / f"{line[0]} {place}")])
        if code:
            raise SystemExit(f"{line[0]} ended with {code}")
        seconds = time.perf_counter() - began
    return {"images_a_second": images / seconds, "mebibytes": memory.high_water() - before}


def bare(root: Path, images: int, processes: int) -> dict[str, float]:
    """Images a second of the forward pass alone, each process with its part of the images."""
    from vitreous.models import load_model

    model = load_model(root / "model")
    batch = torch.rand(16, 3, *model.preprocessing.size)
    batches = max(1, images // processes // len(batch))
    began = before = 0.0
    with torch.no_grad():
        for number in range(-2, batches):
            if number == 0:
                before = memory.reset()
                torch.distributed.barrier()
                began = time.perf_counter()
            model(batch)
    done = batches * len(batch) * processes
    seconds = time.perf_counter() - began
    return {"images_a_second": done / seconds, "mebibytes": memory.high_water() - before}


def inside(root: Path, out: Path, images: int, steps: int) -> None:
    """Measure in one of the processes; the first writes what came of it."""
    torch.set_num_threads(1)
    own = [str(root / "model"), "--data", IMAGES, "--device", "cpu", "--quiet"]
    masks = ["--method", "relevance", "--model", str(root / "model"), "--device", "cpu"]
    attack = ["--attack", "pgd", "--steps", "10", "--epsilon", "2/255"]
    lines = {
        "evaluate": ["evaluate", *own, "--workers", "0"],
        "attack": ["attack", *own, *attack],
        "mask": ["mask", IMAGES, *masks, "--minimum-pixels", "0", "--sheet", "0"],
    }
    came = {name: command(line, root, out, images) for name, line in lines.items()}
    recipe = json.loads((root / "recipe.json").read_text())
    came["train"] = train_steps(recipe, out / "train", steps)
    torch.distributed.init_process_group("gloo")
    came[BARE] = bare(root, images, int(os.environ["WORLD_SIZE"]))
    torch.distributed.destroy_process_group()
    if os.environ["RANK"] == "0":
        (out / "came.json").write_text(json.dumps(came))


def main() -> None:
    """Start the processes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--inside", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        inside(*given.inside, given.images, given.steps)
        return
    rounds: list[dict[int, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        recipe = prepare(root, given.images, given.size, given.depth)
        (root / "recipe.json").write_text(json.dumps(recipe))
        for number in range(given.rounds):
            turn = given.processes[:: -1 if number % 2 else 1]
            rounds.append({n: measure(root, number, n, given.images, given.steps) for n in turn})
    print(table(rounds, given.processes))


def table(rounds: list[dict[int, Any]], processes: list[int]) -> str:
    """A line for each command and number of processes."""
    lines = [
        "| command | processes | images/s | times (least to most) | floor's share | communication "
        "| MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    first = processes[0]
    for name in rounds[0][first]:
        for count in processes:
            rates = [came[count][name]["images_a_second"] for came in rounds]
            times = [r / came[first][name]["images_a_second"] for r, came in zip(rates, rounds)]
            told = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
            shares = [came[count][name].get("communication") for came in rounds]
            known = [share for share in shares if share is not None and count > 1]
            share = f"{statistics.median(known):.0%}" if known else ""
            rate = f"{statistics.median(rates):.1f} {told_spread(rates)}"
            shown = told if count != first else "1"
            bare = [
                came[count][BARE]["images_a_second"] / came[first][BARE]["images_a_second"]
                for came in rounds
            ]
            of_floor = statistics.median(t / b for t, b in zip(times, bare))
            held = statistics.median(came[count][name]["mebibytes"] for came in rounds)
            lines.append(
                f"| {name} | {count} | {rate} | {shown} | {of_floor:.2f} | {share} | {held:.0f} |"
            )
    return "\n".join(lines)


def measure(
    root: Path, number: int, processes: int, images: int, steps: int
) -> dict[str, dict[str, float]]:
    """Run this file in some processes."""
    out = root / f"out{number}_{processes}"
    out.mkdir()
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program += ["--nproc-per-node", str(processes), __file__, "--inside", str(root), str(out)]
    program += ["--images", str(images), "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(program, check=True, env=environment)
    return json.loads((out / "came.json").read_text())


if __name__ == "__main__":
    main()
