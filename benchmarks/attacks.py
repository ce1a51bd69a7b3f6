"""PGD-50, APGD and Square against torchattacks, foolbox and the AutoAttack port, on photographs.

    python benchmarks/attacks.py --model MODEL --images FOLDER --packages OTHERS

MODEL is a folder of a trained classifier, FOLDER has its classes as folders. Ours and theirs take
turns on the same images and the same model (its own pass, in [0, 1]); times are medians of the wall
clock with half of what lies between the quartiles (of `--repeats 1` there is none), and multiples
medians of paired ratios. Beside each time stands how many images withstand: an attack that is
faster and finds less is none. Theirs search to the end of their steps; ours leave an image when it
is lost, which is less work the more images are lost. PGD can be told not to (`--attacks "PGD, to
the end"`): equal work. Each attack of ours runs beside all that know it. `--rounded bfloat16` adds
ours searched in that type, as `vitreous attack --precision` does; what is found must fool the model
in float32, and Square may have more queries for the time that it saves (`--rounded-queries`).
The floor of each is the passes of the model that it makes itself, counted, at what such a pass
costs in the same turns; its share is its time over that of the attack. Memory is measured apart, on
a search of few steps, which holds as much as a long one: the peak beyond model and images.
torchattacks and foolbox have pins of their own; they are read from a folder, and one that is not
there is left out, saying so. Goal: 1.5 times as fast, at equal or lower accuracy.

    uv pip install --target OTHERS --no-deps torchattacks==3.5.1 foolbox==3.3.4 eagerpy
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import Tensor

import passes
from memory import peaks
from turns import table, take_turns
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


def searched(search: Search, images: Tensor, labels: Tensor, batch: int) -> list[Tensor]:
    """What a search makes of all images, a batch at a time."""
    return [search(x, y) for x, y in zip(images.split(batch), labels.split(batch))]


@torch.no_grad()
def withstand(model: Classifier, found: list[Tensor], labels: Tensor) -> int:
    """How many images withstand, judged by a pass of their own."""
    pairs = zip(found, labels.split(len(found[0])))
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs)


def everyone(settings: Settings, model: Classifier) -> dict[str, dict[str, Search]]:
    """The attacks of all who are there, by who makes them."""
    made = {"ours": ours(settings, model, "float32", settings.queries)}
    if settings.rounded is not None:
        again = ours(settings, model, settings.rounded, settings.rounded_queries)
        made[f"ours, {settings.rounded}"] = again
    there = (name for name in settings.others if importlib.util.find_spec(name) is not None)
    return made | {name: OTHERS[name](settings, model) for name in there}


def one_pass(
    settings: Settings, model: Classifier, images: Tensor
) -> dict[str, Callable[[], None]]:
    """One pass of all images in each type; those in the second are called `…, TYPE`."""
    work: dict[str, Callable[[], None]] = {}
    for precision in dict.fromkeys(("float32", settings.rounded or "float32")):
        kind = "" if precision == "float32" else f", {precision}"
        context = partial(autocast, model.device, precision)
        bare = passes.bare(model, images, settings.batch, context)
        work |= {name + kind: call for name, call in bare.items()}
    return work


def show(
    name: str,
    searches: dict[str, Search],
    short: dict[str, Search],
    settings: Settings,
    model: Classifier,
    images: Tensor,
    labels: Tensor,
) -> None:
    """Print a line for each who knows an attack; `short` are the searches of few steps."""
    counted: dict[str, tuple[int, int]] = {}
    made: dict[str, list[Tensor]] = {}

    def search(who: str) -> None:
        made[who] = searched(searches[who], images, labels, settings.batch)

    def whole(who: str) -> None:
        counted[who] = passes.count(model, partial(search, who))

    def few(who: str) -> object:
        return searched(short[who], images, labels, settings.batch)

    bare = one_pass(settings, model, images)
    for call in [*(partial(few, who) for who in searches), *bare.values()]:
        call()  # warms up
    needed = peaks({who: partial(few, who) for who in searches})
    work: dict[str, Callable[[], object]] = {who: partial(whole, who) for who in searches}
    times = take_turns(work | bare, settings.repeats, clock=settings.now, warm=False)
    left = {who: withstand(model, found, labels) for who, found in made.items()}
    floors = {
        who: passes.floor(counted[who], len(images), times, "".join(who.partition(", ")[1:]))
        for who in searches
    }
    notes = {who: f"withstand {count}" for who, count in left.items()}
    print(name, *table(times, needed, floors, notes), sep="\n", flush=True)


def main(settings: Settings) -> None:
    """Print a line for each attack and who makes it."""
    torch.set_num_threads(settings.threads)
    model = load_model(str(settings.model)).eval().requires_grad_(False)
    images, labels = read(settings, model)
    if settings.packages is not None:
        sys.path.append(str(settings.packages))
    few = dataclasses.replace(
        settings, steps=min(settings.steps, 4), queries=10, rounded_queries=10
    )
    long, short = everyone(settings, model), everyone(few, model)
    print(f"{settings.model.name}, {len(images)} images, ε {settings.epsilon * 255:g}/255")
    for package in settings.others:
        if package not in long:
            print(f"{package}: left out, --packages names no folder that has it")
    for name in settings.attacks:
        known = [who for who, attacks in long.items() if name in attacks]
        searches, fewer = ({who: made[who][name] for who in known} for made in (long, short))
        show(name, searches, fewer, settings, model, images, labels)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
