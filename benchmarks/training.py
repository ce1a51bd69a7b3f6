"""The whole of training against its bare step: images a second.

    python benchmarks/training.py
    python benchmarks/training.py --precision bfloat16
    python benchmarks/training.py --compiled
    python benchmarks/training.py --compiled --recipe joint/vit_base_16_no_masks
    python benchmarks/training.py --costs --precision bfloat16 --batch 8
    python benchmarks/training.py --data PHOTOGRAPHS --size 224 --batch 8

The whole is what `vitreous train` does in an epoch: read, transform, collate, step, log; its floor
is the bare step, that of one batch in memory: the objectives' loss, its gradients, the optimiser.
Both train the same network by RobustViT's objectives. Wanted: 0.95 of the bare step. There is no
other package's training to set beside it. Images are generated scenes, or with `--data` files of
photographs (classes as folders; those of one folder are dealt out to eight) by the recipe
`photographs/guided`, with a centred box as the mask of each, a PNG file that is written for it.
With `--compiled` it is the bare step compiled that is set beside the bare step, after its first
one, whose time is told, with what of it was compiling; the floor is a forward pass, a backward pass
to the activations, a full backward pass and the optimiser. `--recipe` takes the adversary and the
objectives of a recipe; model, images and optimiser stay the demo's. With `--costs` the bare steps
of plain finetuning, guidance and background swap are set beside each other: what an objective
costs; the floor is the plain one. They take turns, each the same number of steps in a turn; told
are medians of the wall clock, half of what lies between the quartiles, the floor's share (its time
over that of each), images a second, and, measured apart, the peak of memory beyond what was there
before (the model, the optimiser's state, a batch).
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from PIL import Image
from tqdm import tqdm

import vitreous
from memory import peaks
from relevance import floor_step
from turns import medians, table, take_turns
from vitreous.data.batch import Batch
from vitreous.data.listing import is_image
from vitreous.data.loading import load_batches
from vitreous.precision import Precision, autocast
from vitreous.training import load_recipe
from vitreous.training.adversaries.gradient import passes_made_by
from vitreous.training.compiled import CompiledPass
from vitreous.training.engine import Trainer
from vitreous.training.objectives import OBJECTIVES
from vitreous.training.recipe import recipe_values
from vitreous.training.step import Share, compute_loss

CLASSES = 8
COSTS = ("demo/plain", "demo/guided", "demo/swapped")


@dataclasses.dataclass
class Settings:
    """Settings of the benchmark."""

    model: str = "vit_small_patch16_224"
    size: int = 112
    batch: int = 16
    steps: int = 12
    """Of an epoch."""
    repeats: int = 5
    workers: Literal["auto"] | int = 0
    """What recipes have: where steps keep all cores busy, processes that read take from them."""
    data: Path | None = None
    """Photographs to train on, in place of generated scenes."""
    threads: int = 2
    precision: Precision = "float32"
    compiled: bool = False
    """Compare the compiled step with the step."""
    recipe: str = "demo/guided"
    """Whose adversary and objectives are compiled."""
    costs: bool = False
    """Compare the steps of several recipes."""

    @property
    def images(self) -> int:
        """In a turn."""
        return self.batch * self.steps


def lay_out(data: Path, root: Path, count: int) -> dict[str, Any]:
    """Photographs with masks as the recipe reads them; returns what its `data` says.

    Args:
        data: Photographs in folders, whose names are then their classes, or in one folder.
        root: Where `images/CLASS/…` (links) and `masks/CLASS/….png` are made.
        count: How many, evenly spread.

    Raises:
        SystemExit: If there are fewer.
    """
    found = sorted(file for file in data.rglob("*") if is_image(file.name))
    if len(found) < count:
        raise SystemExit(f"{data}: expected at least {count} photographs, found {len(found)}")
    for number in range(count):
        file = found[number * len(found) // count]
        label = file.parent.name if file.parent != data else f"class{number % CLASSES}"
        image = root / "images" / label / f"{number:05d}{file.suffix}"
        mask = root / "masks" / label / f"{number:05d}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        mask.parent.mkdir(parents=True, exist_ok=True)
        image.symlink_to(file.resolve())
        with Image.open(file) as opened:
            width, height = opened.size
        box = np.zeros((height, width), np.uint8)
        box[height // 4 : -(height // 4), width // 4 : -(width // 4)] = 255
        Image.fromarray(box).save(mask)
    places = {"images": str(root / "images"), "masks": str(root / "masks")}
    return places | {f"validation_{kind}": place for kind, place in places.items()}


def changes(settings: Settings, root: Path) -> dict[str, Any]:
    """What is laid over the recipe: the images, their size and the epochs of a benchmark."""
    size = settings.size
    view = {"resize": {"size": size}}
    if settings.data is None:
        data = {"train": settings.images, "validation": settings.batch, "size": size}
        transforms = {"validation": view}
    else:
        data = lay_out(settings.data, root, settings.images)
        larger = {"resize": {"size": round(size * 256 / 224)}}
        transforms = {
            "train": larger | {"random_crop": {"size": size}},
            "validation": larger | {"center_crop": {"size": size}},
        }
    training = {
        "batch_size": settings.batch,
        "workers": settings.workers,
        "precision": settings.precision,
        "epochs": 3 + settings.repeats,
        "samples": 0,
        "trackers": [],
    }
    return {"data": data, "transforms": transforms, "training": training}


def step_of(name: str) -> dict[str, Any]:
    """What a recipe makes of a step, to be laid over another one."""
    values = recipe_values(name)
    objectives = {key: values["objectives"].get(key, False) for key in OBJECTIVES}
    adversary = values.get("adversary")
    robust = {"images": 0}
    return {"objectives": objectives, "adversary": adversary, "robust_validation": robust}


def make(
    settings: Settings, root: Path, name: str = "demo/guided", over: dict[str, Any] | None = None
) -> Trainer:
    """A run of a recipe, with what is laid over it, on images as large as the input."""
    given = changes(settings, root) | (over or {})
    classes = CLASSES
    if settings.data is not None:
        classes = sum(1 for _ in (root / "images").iterdir())
    model = vitreous.load_model(
        settings.model, pretrained=False, image_size=settings.size, num_classes=classes
    )
    recipe = load_recipe(name, given)
    trainer = Trainer(recipe, root / "run", model, quiet=True)
    trainer.folder.prepare(recipe, True)
    trainer.accelerator.init_trackers("logs", {})
    trainer.model.train()
    return trainer


def whole(trainer: Trainer, bar: tqdm) -> None:
    """An epoch's steps."""
    batches = trainer.remaining_batches()
    loader = load_batches(trainer.train_data, batches, trainer.progress.epoch, trainer.workers)
    for rows, batch in zip(batches, loader):
        trainer.after_step(trainer.step(batch, rows), bar)
    trainer.progress.epoch, trainer.progress.position = trainer.progress.epoch + 1, 0


def first_batch(trainer: Trainer) -> Batch:
    """A batch in memory."""
    (batch,) = load_batches(trainer.train_data, [list(range(trainer.settings.batch_size))], 0)
    return batch.to(trainer.accelerator.device)


def bare(trainer: Trainer, steps: int, compiled: CompiledPass | None = None) -> Callable[[], None]:
    """Some steps alone."""
    model, optimizer = trainer.classifier, trainer.trained.optimizer
    passed = model if compiled is None else compiled.module
    batch, objectives = first_batch(trainer), trainer.recipe.objectives
    adversary, state = trainer.recipe.adversary, trainer.state.adversary

    def run() -> None:
        for _ in range(steps):
            with autocast(model.device, trainer.settings.precision):
                seen = batch
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

    return run


def passes(trainer: Trainer, steps: int) -> Callable[[], None]:
    """The passes of some steps, and the optimiser."""
    model, optimizer, batch = trainer.classifier, trainer.trained.optimizer, first_batch(trainer)

    def run() -> None:
        for _ in range(steps):
            with autocast(model.device, trainer.settings.precision):
                floor_step(model, optimizer, batch)
            optimizer.zero_grad(set_to_none=True)

    return run


def show(settings: Settings, work: dict[str, Callable[[], None]], base: str = "ours") -> None:
    """Print a line for each alternative."""
    times = take_turns(work, settings.repeats)
    rates = {n: f"{settings.images / t:6.1f} images/s" for n, t in medians(times).items()}
    floors = {name: times[base] for name in times} if "floor" not in times else None
    print(*table(times, peaks(work), floors, rates, base), sep="\n", flush=True)


def show_compiled(settings: Settings, root: Path) -> None:
    """The compiled step beside the step."""
    trainer = make(settings, root, over=step_of(settings.recipe))
    recipe, started = trainer.recipe, time.perf_counter()
    compiled = CompiledPass(
        trainer.classifier, recipe.maps_wanted, gradients=recipe.gradients_wanted
    )
    bare(trainer, 1, compiled)()
    seconds = time.perf_counter() - started
    print(f"  {settings.recipe}: the first compiled step {seconds:.1f} s; {compiled.log}")
    work = {
        "compiled": bare(trainer, settings.steps, compiled),
        "as it is": bare(trainer, settings.steps),
        "floor": passes(trainer, settings.steps),
    }
    show(settings, work, "as it is")
    trainer.accelerator.end_training()


def show_costs(settings: Settings, root: Path) -> None:
    """The steps of several recipes beside those of plain finetuning."""
    trainers = {name: make(settings, root / name, name) for name in COSTS}
    work = {name: bare(trainer, settings.steps) for name, trainer in trainers.items()}
    show(settings, work, COSTS[0])
    for trainer in trainers.values():
        trainer.accelerator.end_training()


def show_whole(settings: Settings, root: Path) -> None:
    """An epoch beside its bare steps."""
    recipe = "demo/guided" if settings.data is None else "photographs/guided"
    trainer, bar = make(settings, root, recipe), tqdm(disable=True)
    print(f"  {recipe}, {trainer.workers} processes read; wanted: floor's share ≥ 0.95")
    show(settings, {"ours": lambda: whole(trainer, bar), "floor": bare(trainer, settings.steps)})
    trainer.accelerator.end_training()


def main(settings: Settings) -> None:
    """Print what was asked for.

    Raises:
        SystemExit: If photographs are asked for where scenes are compared.
    """
    if settings.data is not None and (settings.compiled or settings.costs):
        raise SystemExit("--data goes with neither --compiled nor --costs")
    torch.set_num_threads(settings.threads)
    print(
        f"{settings.model} at {settings.size} px, batch {settings.batch}, "
        f"{settings.steps} steps a turn, {settings.precision}"
    )
    wanted = show_compiled if settings.compiled else show_costs if settings.costs else show_whole
    with tempfile.TemporaryDirectory() as name:
        wanted(settings, Path(name))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
