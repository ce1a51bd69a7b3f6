"""One step of a recipe at its real size, cut among two processes of a CPU by FSDP2.

    python tests/processes/real_size.py                     # a recipe of each paper
    python tests/processes/real_size.py robust_vit/vit_large

Weights are random and so are the images; their size, the network, the objectives, the adversary and
the optimiser are the recipe's. Printed beside what is measured is what arithmetic on the `meta`
device says: each process holds 1 / 2 of the weights, their gradients and the optimiser's state.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor
from torch.distributed.tensor import DTensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from vitreous.config import Values
from vitreous.data.loading import load_batches
from vitreous.processes import world_size
from vitreous.training.engine import Trainer
from vitreous.training.recipe import Recipe, load_recipe

PROCESSES = 2
PAPERS = ("robust_vit/vit_base", "crossvit/18_dagger_408_adv_rot")
GIGA = 1e9


def small(root: Path) -> Values:
    """What is laid over a recipe: a few random images, an image a process, and nothing fetched."""
    training = {"batch_size": PROCESSES, "accumulation": 1, "trackers": [], "samples": 0}
    masks = str(root / "masks")
    return {
        "model": {"pretrained": False, "checkpoint": None, "num_classes": 1000, "new_head": True},
        "data": {"name": "folders", "images": str(root / "images"), "masks": masks},
        "training": {**training, "sharding": "fsdp2", "workers": 0, "precision": "float32"},
        "robust_validation": {"images": 0},
    }


def write_images(root: Path) -> None:
    """Random images of two classes, with masks."""
    random = np.random.default_rng(0)
    for number in range(8):
        mask = np.zeros((480, 480), np.uint8)
        mask[100:300, 120:320] = 255
        pixels = random.integers(0, 255, (480, 480, 3), dtype=np.uint8)
        for kind, array in (("images", pixels), ("masks", mask)):
            file = root / kind / f"c{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file)


def expected(recipe: Recipe) -> dict[str, Any]:
    """By arithmetic: weights, and the bytes of weights, gradients and what the optimiser keeps."""
    with torch.device("meta"):
        net = timm.create_model(recipe.model.name, num_classes=recipe.model.num_classes)
    count = sum(weight.numel() for weight in net.parameters())
    kept = 2 if "adam" in recipe.optimizer.name else 1
    return {"weights": count, "bytes": 4 * count * (2 + kept)}


def own_bytes(values: Any) -> int:
    """Bytes of tensors that this process holds of some values."""
    if isinstance(values, DTensor):
        values = values.to_local()
    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    return sum(map(own_bytes, values.values())) if isinstance(values, dict) else 0


def measured(name: str, root: Path) -> dict[str, Any]:
    """Make one step in this process of several; what it holds, took, and came to."""
    assert world_size() == PROCESSES
    torch.set_num_threads(1)
    trainer = Trainer(load_recipe(name, small(root)), root / "run" / name, quiet=True)
    assert trainer.trained.sharded
    whole = list(range(PROCESSES))
    (batch,) = load_batches(trainer.train_data, [trainer.optimize.own_share(whole)], 0)
    weights = {n: p for n, p in trainer.classifier.net.named_parameters()}
    held: dict[str, int] = {}
    keep = trainer.trained.optimizer.zero_grad

    def noting(*arguments: Any, **settings: Any) -> None:  # gradients are there until now
        held["gradients"] = own_bytes({n: p.grad for n, p in weights.items()})
        keep(*arguments, **settings)

    trainer.trained.optimizer.zero_grad = noting
    trainer.model.train()
    before, began = resident(), time.perf_counter()
    figures = trainer.step(batch, whole)
    seconds = time.perf_counter() - began
    held["weights"] = own_bytes(weights)
    held["optimizer"] = own_bytes(dict(trainer.trained.optimizer.state))
    came = {
        "held": sum(held.values()),
        "peak": resident() - before,
        "seconds": seconds,
        "images": list(batch.images.shape),
        "loss": figures["loss"],
    }
    trainer.accelerator.end_training()
    return came


def resident() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def launch(name: str, root: Path) -> list[dict[str, Any]]:
    """Start the processes; what each measured."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program += ["--nproc-per-node", str(PROCESSES), __file__, name, "--inside", str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(program, check=True, env=environment)
    return [json.loads((root / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


def main() -> None:
    """Print a line a recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=PAPERS)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        came = measured(given.recipes[0], given.inside)
        (given.inside / f"{os.environ['RANK']}.json").write_text(json.dumps(came))
        return
    print("| recipe | images a process | weights | arithmetic | held | grew by | seconds | loss |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in given.recipes:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder))
            told = expected(load_recipe(name, small(Path(folder))))
            came = launch(name, Path(folder))
        each = [
            ", ".join(f"{own[key] / GIGA:.3f}" for own in came) + " GB" for key in ("held", "peak")
        ]
        shape, loss = "×".join(map(str, came[0]["images"])), came[0]["loss"]
        arithmetic = f"{told['bytes'] / PROCESSES / GIGA:.3f} GB"
        seconds = max(own["seconds"] for own in came)
        print(f"| `{name}` | {shape} | {told['weights'] / 1e6:.1f} M | {arithmetic} | {each[0]} | "
              f"{each[1]} | {seconds:.0f} | {loss:.3f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
