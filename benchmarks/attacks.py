"""PGD-50, APGD and Square against torchattacks, foolbox and the AutoAttack port, on photographs.

    python benchmarks/attacks.py --model MODEL --images FOLDER --packages OTHERS

MODEL is a folder of a trained classifier, FOLDER has its classes as folders. Ours and theirs take
turns on the same images and the same model (its own pass, in [0, 1]); times are the wall clock
of each, and ratios medians of paired ratios. Beside each time stands how many images withstand: an
attack that is faster and finds less is none. Theirs search to the end of their steps; ours leave an
image when it is lost, which is less work the more images are lost. PGD can be told not to
(`--attacks "PGD, to the end"`): equal work. Each attack of ours runs once beside all that know it.
`--rounded bfloat16` adds ours searched in that type, as `vitreous attack --precision` does; what is
found must fool the model in float32, and Square may have more queries for the time that it saves
(`--rounded-queries`). What one pass of the model costs stands at the head: no attack is below its
passes. torchattacks and foolbox have pins of their own; they are read from a folder, and one that
is not there is left out, saying so. Goal: 1.5 times as fast, at equal or lower accuracy.

    uv pip install --target OTHERS --no-deps torchattacks==3.5.1 foolbox==3.3.4 eagerpy
"""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from vitreous.attacks import APGD, PGD, Square
from vitreous.data.images import evaluation_transform
from vitreous.data.readers import read_dataset
from vitreous.models import Classifier, load_model
from vitreous.precision import Precision, autocast

Search = Callable[[Tensor, Tensor], Tensor]
PACKAGES: tuple[Literal["pyautoattack", "torchattacks", "foolbox"], ...] = (
    "pyautoattack",
    "torchattacks",
    "foolbox",
)


@dataclasses.dataclass
class Settings:
    """Settings of the benchmark."""

    model: Path
    images: Path
    packages: Path | None = None
    """Folder that torchattacks and foolbox were installed to."""
    attacks: tuple[str, ...] = ("PGD", "APGD", "Square")
    count: int = 200
    """Images, evenly spread over the folder."""
    batch: int = 50
    repeats: int = 2
    """Turns that each takes."""
    threads: int = 2
    rounded: Precision | None = None
    """A second type, of our passes while we search."""
    others: tuple[Literal["pyautoattack", "torchattacks", "foolbox"], ...] = tuple(PACKAGES)
    """What stands beside ours."""
    clock: Literal["wall", "cpu"] = "wall"
    """Processor time, of one thread best, where others are at work."""
    epsilon: float = 1 / 255
    steps: int = 50
    """Of PGD and APGD."""
    queries: int = 200
    """Of Square."""
    rounded_queries: int = 300
    """Of Square in the second type."""

    def now(self) -> float:
        """Seconds on the clock."""
        return time.process_time() if self.clock == "cpu" else time.perf_counter()


def read(settings: Settings, model: Classifier) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) and labels (N,)."""
    dataset = read_dataset(settings.images)
    chosen = np.linspace(0, len(dataset) - 1, settings.count).astype(int).tolist()
    view = evaluation_transform(model.preprocessing)
    images = torch.stack([view(dataset.images.open(i)) for i in chosen])
    return images, torch.tensor([dataset.label(i) for i in chosen])


def ours(
    settings: Settings, model: Classifier, precision: Precision, queries: int
) -> dict[str, Search]:
    """Our attacks by name, searched in a type."""
    limits = {"epsilon": settings.epsilon}
    attacks = {
        "PGD": (pgd := PGD(**limits, steps=settings.steps, step_size=settings.epsilon / 4)),
        "PGD, to the end": pgd.exhaustive(),
        "APGD": APGD(**limits, steps=settings.steps),
        "Square": Square(**limits, queries=queries),
    }

    def search(attack: PGD | APGD | Square) -> Search:
        def found(x: Tensor, y: Tensor) -> Tensor:
            with autocast(model.device, precision):
                return attack(model, x, y, generator=torch.Generator().manual_seed(0))

        return found

    return {name: search(attack) for name, attack in attacks.items()}


def port(settings: Settings, model: Classifier) -> dict[str, Search]:
    """The AutoAttack port's attacks by name."""
    from pyautoattack.autopgd_base import APGDAttack
    from pyautoattack.square import SquareAttack

    same = {"eps": settings.epsilon, "norm": "Linf", "seed": 0, "device": "cpu"}
    return {
        "APGD": APGDAttack(model, n_iter=settings.steps, n_restarts=1, loss="ce", **same).perturb,
        "Square": SquareAttack(
            model, n_queries=settings.queries, p_init=0.8, resc_schedule=True, **same
        ).perturb,
    }


def torchattacks(settings: Settings, model: Classifier) -> dict[str, Search]:
    """torchattacks' attacks by name."""
    import torchattacks as other

    size, steps, queries = settings.epsilon / 4, settings.steps, settings.queries
    return {
        "PGD": (pgd := other.PGD(model, eps=settings.epsilon, alpha=size, steps=steps)),
        "PGD, to the end": pgd,
        "APGD": other.APGD(model, eps=settings.epsilon, steps=steps, n_restarts=1),
        "Square": other.Square(model, eps=settings.epsilon, n_queries=queries, n_restarts=1),
    }


def foolbox(settings: Settings, model: Classifier) -> dict[str, Search]:
    """foolbox's PGD."""
    import foolbox as other

    wrapped = other.PyTorchModel(model, bounds=(0, 1), device=str(model.device))
    pgd = other.attacks.LinfPGD(abs_stepsize=settings.epsilon / 4, steps=settings.steps)

    def search(x: Tensor, y: Tensor) -> Tensor:
        return pgd(wrapped, x, y, epsilons=settings.epsilon)[1]

    return {"PGD": search, "PGD, to the end": search}


OTHERS: dict[str, Callable[[Settings, Classifier], dict[str, Search]]] = {
    "pyautoattack": port,
    "torchattacks": torchattacks,
    "foolbox": foolbox,
}


def run(
    search: Search, model: Classifier, images: Tensor, labels: Tensor, settings: Settings
) -> tuple[float, int]:
    """Seconds, and how many images withstand, judged by a pass of their own."""
    batch = settings.batch
    started = settings.now()
    found = [search(x, y) for x, y in zip(images.split(batch), labels.split(batch))]
    seconds = settings.now() - started
    with torch.no_grad():
        pairs = zip(found, labels.split(batch))
        return seconds, sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs)


def one_pass(settings: Settings, model: Classifier, images: Tensor, precision: Precision) -> str:
    """Seconds of a forward pass, and of one with the gradient of the images; the best of three."""
    best = [float("inf")] * 2
    for _ in range(3):
        for place, wanted in enumerate((False, True)):
            started = settings.now()
            for part in images.split(settings.batch):
                with torch.set_grad_enabled(wanted), autocast(model.device, precision):
                    score = model(part.requires_grad_(wanted)).sum()
                if wanted:
                    torch.autograd.grad(score, part)
                part.requires_grad_(False)
            best[place] = min(best[place], settings.now() - started)
    return f"{best[0]:.2f} s forward, {best[1]:.2f} s forward and backward"


def main(settings: Settings) -> None:
    """Print a line for each attack and other."""
    torch.set_num_threads(settings.threads)
    model = load_model(str(settings.model)).eval().requires_grad_(False)
    images, labels = read(settings, model)
    if settings.packages is not None:
        sys.path.append(str(settings.packages))
    others: dict[str, dict[str, Search]] = {
        "ours": ours(settings, model, "float32", settings.queries)
    }
    if settings.rounded is not None:
        again = ours(settings, model, settings.rounded, settings.rounded_queries)
        others[f"ours, {settings.rounded}"] = again
    print(f"{settings.model.name}, {len(images)} images, ε {settings.epsilon * 255:g}/255")
    for precision in dict.fromkeys(("float32", settings.rounded or "float32")):
        print(
            f"  one pass of all images, {precision}: {one_pass(settings, model, images, precision)}"
        )
    for package in settings.others:
        make = OTHERS[package]
        if importlib.util.find_spec(package) is None:
            print(f"{package}: left out, --packages names no folder that has it")
        else:
            others[package] = make(settings, model)
    for name in settings.attacks:
        work = {who: attacks[name] for who, attacks in others.items() if name in attacks}
        turns = []
        for turn in range(settings.repeats):
            order = list(work)[:: 1 if turn % 2 == 0 else -1]
            turns.append({w: run(work[w], model, images, labels, settings) for w in order})
        left = {who: max(turn[who][1] for turn in turns) for who in work}
        for who in work:
            seconds = statistics.median(turn[who][0] for turn in turns)
            times = statistics.median(turn[who][0] / turn["ours"][0] for turn in turns)
            line = f"  {name:15} {who:14} {seconds:8.1f} s, {times:.2f} × ours"
            print(f"{line}; withstand {left[who]}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
