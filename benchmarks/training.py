"""The whole of training against its bare step: images a second.

    python benchmarks/training.py
    python benchmarks/training.py --precision bfloat16
    python benchmarks/training.py --compiled
    python benchmarks/training.py --compiled --recipe demo/joint
    python benchmarks/training.py --compiled --recipe joint/vit_base_16_no_masks
    python benchmarks/training.py --costs --precision bfloat16 --batch 8

The whole is what `vitreous train` does in an epoch: read, transform, collate, step, log; the bare
step is that of one batch in memory: the objectives' loss, its gradients, the optimiser. Both train
the same network by RobustViT's objectives and take turns on it. Floor: 0.95 of the bare step.
With `--compiled` it is the bare step compiled that takes turns with the bare step, after its first
one, whose time is told, with what of it was compiling. `--recipe` takes the adversary and the
objectives of a recipe, in the bare step too; model, images and optimiser stay the demo's. With
`--costs` the bare steps of plain finetuning, guidance and background swap take turns: what an
objective costs.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import torch
import tyro
from tqdm import tqdm

import vitreous
from vitreous.data.loading import load_batches
from vitreous.precision import Precision, autocast
from vitreous.training import load_recipe
from vitreous.training.adversaries.gradient import passes_made_by
from vitreous.training.compiled import CompiledPass
from vitreous.training.engine import Trainer
from vitreous.training.objectives import OBJECTIVES
from vitreous.training.recipe import recipe_values
from vitreous.training.step import Share, compute_loss


@dataclasses.dataclass
class Settings:
    """Settings of the benchmark."""

    model: str = "vit_small_patch16_224"
    size: int = 112
    batch: int = 16
    steps: int = 12
    """Of an epoch."""
    repeats: int = 5
    workers: int = 0
    """What recipes have: where steps keep all cores busy, processes that read take from them."""
    threads: int = 2
    precision: Precision = "float32"
    compiled: bool = False
    """Compare the compiled step with the step."""
    recipe: str = "demo/guided"
    """Whose adversary and objectives."""
    costs: bool = False
    """Compare the steps of several recipes."""


def make(settings: Settings, out: Path, name: str) -> Trainer:
    """A run by what a recipe makes of a step, on the demo's scenes, as large as the input."""
    values = recipe_values(name)
    objectives = {key: values["objectives"].get(key, False) for key in OBJECTIVES}
    changes = {
        "objectives": objectives,
        "adversary": values.get("adversary"),
        "robust_validation": {"images": 0},
        "data": {
            "train": settings.batch * settings.steps,
            "validation": settings.batch,
            "size": settings.size,
        },
        "transforms": {"validation": {"resize": {"size": settings.size}}},
        "training": {
            "batch_size": settings.batch,
            "workers": settings.workers,
            "precision": settings.precision,
            "epochs": 1 + settings.repeats,
            "samples": 0,
        },
    }
    size = settings.size
    model = vitreous.load_model(settings.model, pretrained=False, image_size=size, num_classes=8)
    recipe = load_recipe("demo/guided", changes)
    trainer = Trainer(recipe, out, model, quiet=True)
    trainer.folder.prepare(recipe, True)
    trainer.accelerator.init_trackers("logs", {})
    return trainer


def whole(trainer: Trainer, bar: tqdm) -> float:
    """Images a second of an epoch's steps."""
    batches = trainer.remaining_batches()
    started = time.perf_counter()
    loader = load_batches(
        trainer.train_data, batches, trainer.progress.epoch, trainer.settings.workers
    )
    for rows, batch in zip(batches, loader):
        trainer.after_step(trainer.step(batch, rows), bar)
    seconds = time.perf_counter() - started
    trainer.progress.epoch, trainer.progress.position = trainer.progress.epoch + 1, 0
    return sum(map(len, batches)) / seconds


def bare(
    trainer: Trainer, settings: Settings, steps: int, compiled: CompiledPass | None = None
) -> float:
    """Images a second of the step alone."""
    model, optimizer = trainer.classifier, trainer.trained.optimizer
    passed = model if compiled is None else compiled.module
    adversary, state = trainer.recipe.adversary, trainer.state.adversary
    (batch,) = load_batches(trainer.train_data, [list(range(settings.batch))], 0)
    started = time.perf_counter()
    for _ in range(steps):
        with autocast(model.device, settings.precision):
            seen, objectives = batch, trainer.recipe.objectives
            if adversary is not None:
                with passes_made_by(compiled):
                    images = adversary(model, batch.images, batch.labels, state, 1.0)
                seen = dataclasses.replace(batch, images=images)
            loss = compute_loss(
                passed, model, seen, objectives, clean=batch.images, compiled=compiled
            )
        loss.scaled(Share.whole(batch)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return settings.batch * steps / (time.perf_counter() - started)


def compare_compiled(trainer: Trainer, settings: Settings) -> str:
    """The compiled step beside the step, taking turns."""
    recipe = trainer.recipe
    gradients = recipe.gradients_wanted
    compiled = CompiledPass(trainer.classifier, recipe.maps_wanted, gradients=gradients)
    first = settings.batch / bare(trainer, settings, 1, compiled)
    pairs = []
    for turn in range(settings.repeats + 1):
        both = [None, compiled] if turn % 2 else [compiled, None]
        rates = {made: bare(trainer, settings, settings.steps, made) for made in both}
        pairs.append((rates[compiled], rates[None]))
    ratio = statistics.median(a / b for a, b in pairs[1:])
    rates = [statistics.median(column) for column in zip(*pairs[1:])]
    told = f"{rates[0]:.1f} compiled against {rates[1]:.1f} images/s, ratio {ratio:.3f}"
    return f"{told}; the first step {first:.1f} s; {compiled.log}"


def compare_costs(settings: Settings) -> str:
    """Seconds of each recipe's step over those of plain finetuning, taking turns."""
    names = ("demo/plain", "demo/guided", "demo/swapped")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make(settings, Path(folder) / name, name) for name in names}
        for _ in range(settings.repeats + 1):
            for name, trainer in trainers.items():
                trainer.model.train()
                seconds[name].append(settings.batch / bare(trainer, settings, settings.steps))
        for trainer in trainers.values():
            trainer.accelerator.end_training()
    lines = []
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken[1:], seconds[names[0]][1:]))
        lines.append(f"{name:14} {statistics.median(taken[1:]):.3f} s a step, {ratio:.2f} x plain")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Print both rates and the median of their paired ratios."""
    torch.set_num_threads(settings.threads)
    if settings.costs:
        print(f"{settings.model} at {settings.size} px, batch {settings.batch}")
        print(compare_costs(settings))
        return
    with tempfile.TemporaryDirectory() as name:
        trainer, bar = make(settings, Path(name) / "run", settings.recipe), tqdm(disable=True)
        trainer.model.train()
        what = f"{settings.recipe}, {settings.model} at {settings.size} px, batch {settings.batch}"
        if settings.compiled:
            print(f"{what}, {settings.precision}: {compare_compiled(trainer, settings)}")
            return
        pairs = []
        for turn in range(settings.repeats + 1):
            if turn % 2:
                alone = bare(trainer, settings, settings.steps)
                pairs.append((whole(trainer, bar), alone))
            else:
                pairs.append((whole(trainer, bar), bare(trainer, settings, settings.steps)))
        trainer.accelerator.end_training()
    ratio = statistics.median(a / b for a, b in pairs[1:])
    first, second = (statistics.median(rates) for rates in zip(*pairs[1:]))
    print(
        f"{what}, {settings.precision}: "
        f"{first:.1f} against {second:.1f} images/s, ratio {ratio:.3f} (floor 0.95)"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
