"""Images a second on one and on several processes of one thread each, and what communication takes.

    python benchmarks/scaling.py                                       # on an idle machine
    python benchmarks/scaling.py --images 16 --steps 2 --size 32 --depth 2    # to see it finish

The model is a ViT-Ti of that depth. What a command does once (read the model, open its records)
counts for it as for its user: with few images or a tiny network that is what one measures. For
`train` a step is timed with the exchange of gradients and without it; the difference is the share
of communication. The commands are run twice, and the second time counts.
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


def prepare(root: Path, images: int, size: int, depth: int) -> dict[str, Any]:
    """Write images with masks and a model; returns the recipe of the training."""
    from vitreous.models import load_model, save_model

    generator = np.random.default_rng(0)
    for number in range(images):
        mask = np.zeros((size, size), np.uint8)
        mask[size // 4 : size // 2, size // 4 : size // 2] = 255
        pixels = generator.integers(0, 255, (size, size, 3), dtype=np.uint8)
        for kind, array in (("images", pixels), ("masks", mask)):
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
    for _ in range(steps + 1):
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
    return {"images_a_second": size / together, "communication": max(0.0, 1 - apart / together)}


def command(line: list[str], out: Path, images: int) -> dict[str, float]:
    """Images a second of a whole command."""
    from vitreous.cli import main

    seconds = 0.0
    for again in range(2):
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            code = main([*line, "--out", str(out.with_name(f"{out.name}{again}"))])
        if code:
            raise SystemExit(f"{line[0]} ended with {code}")
        seconds = time.perf_counter() - began
    return {"images_a_second": images / seconds}


def inside(root: Path, images: int, steps: int) -> None:
    """Measure in one of the processes; the first writes what came of it."""
    torch.set_num_threads(1)
    world = os.environ["WORLD_SIZE"]
    out = root / f"out{world}"
    own = [str(root / "model"), "--data", str(root / "images"), "--device", "cpu"]
    masks = ["--method", "relevance", "--model", str(root / "model")]
    lines = {
        "evaluate": ["evaluate", *own, "--workers", "0", "--quiet"],
        "attack": ["attack", *own, "--attack", "pgd", "--epsilon", "2/255", "--quiet"],
        "mask": ["mask", str(root / "images"), *masks, "--minimum-pixels", "0", "--sheet", "0"],
    }
    came = {name: command(line, out / name, images) for name, line in lines.items()}
    recipe = json.loads((root / "recipe.json").read_text())
    came["train"] = train_steps(recipe, out / "train", steps)
    if os.environ["RANK"] == "0":
        (root / f"came{world}.json").write_text(json.dumps(came))


def main() -> None:
    """Start the processes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        inside(given.inside, given.images, given.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        recipe = prepare(root, given.images, given.size, given.depth)
        (root / "recipe.json").write_text(json.dumps(recipe))
        came = {n: measure(root, n, given.images, given.steps) for n in given.processes}
    first = given.processes[0]
    print("| command | processes | images/s | times | communication |")
    print("| --- | --- | --- | --- | --- |")
    for name in came[first]:
        for count, figures in came.items():
            rate = figures[name]["images_a_second"]
            times = rate / came[first][name]["images_a_second"]
            share = figures[name].get("communication")
            shown = "" if share is None or count == 1 else f"{share:.0%}"
            print(f"| {name} | {count} | {rate:.1f} | {times:.2f} | {shown} |")


def measure(root: Path, processes: int, images: int, steps: int) -> dict[str, dict[str, float]]:
    """Run this file in some processes."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program += ["--nproc-per-node", str(processes), __file__, "--inside", str(root)]
    program += ["--images", str(images), "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(program, check=True, env=environment)
    return json.loads((root / f"came{processes}.json").read_text())


if __name__ == "__main__":
    main()
