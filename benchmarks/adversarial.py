"""Speed of the adversarial step and of PGD, and strength of the attacks, against others.

    uv run python benchmarks/adversarial.py
    uv run python benchmarks/adversarial.py --models vit_tiny_patch16_224 --batch 2 --repeats 3

The published formulation of the step makes the weights' gradients in the attack's backward pass
too, and normalises by hand before each forward pass. The floor is two forward passes, a backward
pass that reaches the picture only, a full backward pass and the optimiser's step. Equal work: ours
and the floor both make the classifier's own pass, which spares the last block what no head reads;
the published step runs the network whole, as it was published. The alternatives
take turns, so that a busy machine slows all of them alike; told are medians of the wall clock, half
of what lies between the quartiles, the floor's share (its time over that of each), and, measured
apart, the peak of memory beyond what was there before. PGD is timed twice: as it is (it is done
with an image that is fooled) and, at equal work, without its early stop, since torchattacks' takes
all steps for all images; the floor of each is the passes of the model that it makes itself. APGD
and Square are compared by what withstands them (their time: `attacks.py`).

torchattacks 3.5.1 pins a version of requests that does not go with the development environment;
put it into a folder of its own, without its dependencies, to compare with it:

    uv pip install --target OTHERS --no-deps torchattacks==3.5.1
    uv run python benchmarks/adversarial.py --packages OTHERS
"""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

import passes
from memory import peaks
from turns import compare, table, take_turns
from vitreous.attacks import APGD, PGD, Square
from vitreous.data.batch import Batch
from vitreous.models import Classifier, load_model
from vitreous.training.adversaries.fgsm import FGSM
from vitreous.training.objectives.classification import Classification
from vitreous.training.step import Share, compute_loss

EPSILON, STEP = 2 / 255, 2.5 / 255


@dataclasses.dataclass
class Settings:
    models: tuple[str, ...] = ("vit_small_patch16_224", "crossvit_9_240")
    """Models of the step."""
    batch: int = 16
    """Pictures in a step."""
    repeats: int = 7
    """Turns that each alternative takes."""
    threads: int = 1
    """Threads of each."""
    images: int = 200
    """Pictures of the comparison of attacks."""
    pixels: int = 32
    """Their height and width: 32, 64, …"""
    seeds: int = 4
    """Seeds of Square."""
    steps: bool = True
    """Measure the adversarial step too."""
    packages: Path | None = None
    """Folder that torchattacks was installed to."""


def published_step(
    net: nn.Module, mean: Tensor, std: Tensor, optimizer, images: Tensor, labels: Tensor
) -> None:
    noise = torch.empty_like(images).uniform_(-EPSILON, EPSILON).requires_grad_()
    seen = (images + noise).clamp(0, 1).sub(mean).div(std)
    F.cross_entropy(net(seen), labels).backward()
    with torch.no_grad():
        noise += STEP * noise.grad.sign()
        noise.clamp_(-EPSILON, EPSILON)
    seen = (images + noise.detach()).clamp(0, 1).sub(mean).div(std)
    optimizer.zero_grad()
    F.cross_entropy(net(seen), labels).backward()
    optimizer.step()


def own_step(classifier: Classifier, optimizer, images: Tensor, labels: Tensor) -> None:
    perturbed = FGSM(epsilon=EPSILON, step_size=STEP)(classifier, images, labels, {}, 0.5)
    rows = torch.ones(len(labels), dtype=torch.bool)
    batch = Batch(perturbed, labels, torch.zeros(len(labels), 1, 1, 1), rows, labels)
    loss = compute_loss(classifier, classifier, batch, {"classification": Classification()})
    loss.scaled(Share(len(labels), len(labels), 0)).backward()
    optimizer.step()
    optimizer.zero_grad()


def floor_step(classifier: Classifier, optimizer, images: Tensor, labels: Tensor) -> None:
    seen = images.clone().requires_grad_()
    torch.autograd.grad(F.cross_entropy(classifier(seen), labels), seen)
    F.cross_entropy(classifier(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def compare_steps(settings: Settings) -> None:
    print(f"adversarial step, batch {settings.batch}, wall-clock, {settings.repeats} turns")
    for name in settings.models:
        torch.manual_seed(0)
        classifier = load_model(name, pretrained=False, num_classes=1000).train()
        size = classifier.preprocessing.size
        images = torch.rand(settings.batch, 3, *size)
        labels = torch.randint(0, 1000, (settings.batch,))
        optimizer = torch.optim.Adam(classifier.parameters(), 1e-5, weight_decay=1e-4)
        parts = (classifier, optimizer, images, labels)
        hand = (classifier.net, classifier.mean, classifier.std, optimizer, images, labels)
        work = {
            "ours": lambda p=parts: own_step(*p),
            "published": lambda h=hand: published_step(*h),
            "floor": lambda p=parts: floor_step(*p),
        }
        print(f"  {name} (wanted: published ≥ 1.15 × ours, floor's share of ours ≥ 0.91)")
        print(*compare(work, settings.repeats), sep="\n", flush=True)


def patterns(count: int, seed: int, pixels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(6, 3, 4, 4, generator=generator)
    coarse = coarse.repeat_interleave(pixels // 4, 2).repeat_interleave(pixels // 4, 3)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (count,), generator=generator)
    noise = torch.randn(count, 3, pixels, pixels, generator=generator) * 0.2
    strength = torch.rand(count, 1, 1, 1, generator=generator) * 0.5
    return (0.5 + strength * (coarse[labels] - 0.5) + noise).clamp(0, 1), labels


def trained_model(pixels: int) -> Classifier:
    """A small ViT that knows six classes of coarse patterns."""
    torch.manual_seed(0)
    classifier = load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=6,
        image_size=pixels,
        patch_size=pixels // 4,
        embed_dim=48,
        depth=3,
        num_heads=3,
    ).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), 1e-3)
    images, labels = patterns(3000, 0, pixels)
    for _ in range(8):
        for rows in torch.randperm(len(images)).split(64):
            F.cross_entropy(classifier(images[rows]), labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return classifier.eval()


@torch.no_grad()
def robust(classifier: Classifier, images: Tensor, labels: Tensor) -> int:
    return int((classifier(images).argmax(1) == labels).sum())


def squares(classifier: Classifier, epsilon: float, seed: int) -> tuple[Square, Any]:
    import torchattacks

    theirs = torchattacks.Square(classifier, eps=epsilon, n_queries=500, n_restarts=1, seed=seed)
    return Square(epsilon=epsilon, queries=500), theirs


def compare_pgd(
    settings: Settings, classifier: Classifier, images: Tensor, labels: Tensor, epsilon: float
) -> None:
    """Time and memory of PGD, and how many withstand it."""
    import torchattacks

    own = PGD(epsilon=epsilon, steps=50, step_size=epsilon / 4)
    other = torchattacks.PGD(classifier, eps=epsilon, alpha=epsilon / 4, steps=50)
    attacks = {
        "ours": lambda: own(classifier, images, labels),
        "ours, to the end": lambda: own.exhaustive()(classifier, images, labels),
        "torchattacks": lambda: other(images, labels),
    }
    counted = {name: passes.count(classifier, call) for name, call in attacks.items()}
    passing = passes.bare(classifier, images, len(images))
    times = take_turns(attacks | passing, max(1, settings.repeats // 2))
    floors = {name: passes.floor(n, len(images), times) for name, n in counted.items()}
    left = {name: robust(classifier, call(), labels) for name, call in attacks.items()}
    notes = {name: f"{count} withstand" for name, count in left.items()}
    print(*table(times, peaks(attacks), floors, notes), sep="\n", flush=True)


def compare_attacks(settings: Settings) -> None:
    import torchattacks

    classifier = trained_model(settings.pixels)
    images, labels = patterns(settings.images, 1, settings.pixels)
    clean = robust(classifier, images, labels)
    print(f"\nattacks on a small ViT, right on {clean} of {settings.images} pictures at ε = 0")
    for epsilon in (2 / 255, 4 / 255):
        print(f"PGD-50, ε {epsilon * 255:.0f}/255")
        compare_pgd(settings, classifier, images, labels, epsilon)
        climbs = (
            APGD(epsilon=epsilon, steps=50),
            torchattacks.APGD(classifier, eps=epsilon, steps=50, n_restarts=1),
        )
        a, b = (
            robust(classifier, found, labels)
            for found in (climbs[0](classifier, images, labels), climbs[1](images, labels))
        )
        print(f"APGD-CE-50, ε {epsilon * 255:.0f}/255: {a} withstand ours, {b} torchattacks'")
        left: dict[str, list[int]] = {"ours": [], "theirs": []}
        for seed in range(settings.seeds):  # a random search: one seed says little
            own_square, other_square = squares(classifier, epsilon, seed)
            torch.manual_seed(seed)
            left["ours"].append(robust(classifier, own_square(classifier, images, labels), labels))
            left["theirs"].append(robust(classifier, other_square(images, labels), labels))
        a, b = (statistics.mean(counts) for counts in left.values())
        print(
            f"Square-500, ε {epsilon * 255:.0f}/255: {a:.1f} withstand ours, {b:.1f} "
            f"torchattacks', means of {settings.seeds} seeds ({left['ours']}, {left['theirs']})"
        )


def main(settings: Settings) -> None:
    torch.set_num_threads(settings.threads)
    if settings.packages is not None:
        sys.path.append(str(settings.packages))
    if settings.steps:
        compare_steps(settings)
    if importlib.util.find_spec("torchattacks") is None:
        print("torchattacks is not there; how to add it is written at the top of this file")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compare_attacks(settings)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
