"""What the demo measures on every model, all on the same drawn images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vitreous.attacks import PGD
from vitreous.attribution import foreground_share, relevance
from vitreous.data.generated.scenes import (
    World,
    draw_scenes,
    sample_scenes,
    shift_cues,
    without_cues,
)
from vitreous.data.rotation import quarter_turns
from vitreous.models import Classifier
from vitreous.results import Record, accuracy_record
from vitreous.statistics import NORMAL_QUANTILE

NORMAL, SHIFTED, PLAIN_GROUND = "normal", "tag of another class", "no tag"
EPSILONS = (2 / 255, 4 / 255, 8 / 255)
ANGLES = (0, 90, 180, 270)


@dataclasses.dataclass(frozen=True)
class TestImages:
    """The test sets: the same scenes with the cue of their class, of another class, and without.

    Attributes:
        labels: (N,) classes, the same for all sets.
        masks: (N, 1, S, S) exact foreground, the same for all sets.
        sets: Name → images (N, 3, S, S).
    """

    labels: Tensor
    masks: Tensor
    sets: dict[str, Tensor]


def draw_tests(world: World, count: int, seed: int) -> TestImages:
    """Draw `count` test scenes three times over, cue by cue."""
    scenes = sample_scenes(world, count, seed=seed)
    normal, masks = draw_scenes(world, scenes)
    shifted, _ = draw_scenes(world, shift_cues(world, scenes, seed=seed + 1))
    bare, _ = draw_scenes(world, without_cues(scenes))
    return TestImages(scenes.labels, masks, {NORMAL: normal, SHIFTED: shifted, PLAIN_GROUND: bare})


def measure_models(
    classifier: Classifier, tests: TestImages, attacked: int, seed: int
) -> list[Record]:
    """Measure accuracy, relevance on the foreground, robustness and turned images.

    Args:
        classifier: The model.
        tests: The test sets.
        attacked: How many of the images are attacked.
        seed: Of the attack's random starts.
    """
    return [
        *accuracies(classifier, tests),
        *shares(classifier, tests),
        *attacks(classifier, tests, attacked, seed),
        *turns(classifier, tests),
    ]


@torch.no_grad()
def count_correct(classifier: Classifier, images: Tensor, labels: Tensor) -> int:
    """Number of images that the model classifies correctly."""
    parts = zip(images.split(256), labels.split(256))
    return sum(int((classifier(x).argmax(1) == y).sum()) for x, y in parts)


def accuracies(classifier: Classifier, tests: TestImages) -> Iterator[Record]:
    """Top-1 accuracy on every set, with Wilson intervals."""
    for name, images in tests.sets.items():
        correct = count_correct(classifier, images, tests.labels)
        suite = "clean" if name == NORMAL else "shifts"
        settings = {"headline": True} if name == SHIFTED else {}
        yield accuracy_record(suite, name, "top1", correct, len(images), **settings)


def shares(classifier: Classifier, tests: TestImages) -> Iterator[Record]:
    """Share of the relevance of the true class that lies on the object, with its interval.

    The object's share of the area, which a map that says nothing would have, is in the settings.
    """
    area = float(tests.masks.mean())
    for name in (NORMAL, SHIFTED):
        parts = zip(*(t.split(128) for t in (tests.sets[name], tests.labels, tests.masks)))
        found = torch.cat([foreground_share(relevance(classifier, x, y), m) for x, y, m in parts])
        mean, n = float(found.mean()), len(found)
        half = NORMAL_QUANTILE * float(found.std()) / math.sqrt(n)
        settings = {"method": "gradient_attention", "object_area": round(area, 3)}
        yield Record(
            "explanation", name, "foreground_share", mean, n, (mean - half, mean + half), settings
        )


def attacks(classifier: Classifier, tests: TestImages, count: int, seed: int) -> Iterator[Record]:
    """Accuracy under PGD with 10 steps, on the first images of the normal set."""
    images, labels = tests.sets[NORMAL][:count], tests.labels[:count]
    for epsilon in (0.0, *EPSILONS):
        perturbed = images
        if epsilon:
            generator = torch.Generator().manual_seed(seed)
            attack = PGD(epsilon=epsilon, steps=10)
            perturbed = torch.cat(
                [
                    attack(classifier, x, y, generator=generator)
                    for x, y in zip(images.split(128), labels.split(128))
                ]
            )
        correct = count_correct(classifier, perturbed, labels)
        yield accuracy_record(
            "attack",
            NORMAL,
            "robust_accuracy",
            correct,
            len(labels),
            attack="pgd",
            epsilon=epsilon,
            norm="linf",
            steps=10,
            restarts=1,
        )


def turns(classifier: Classifier, tests: TestImages) -> Iterator[Record]:
    """Accuracy on the normal set turned by quarter turns."""
    for angle in ANGLES:
        turned = quarter_turns(tests.sets[NORMAL], angle // 90)
        correct = count_correct(classifier, turned, tests.labels)
        yield accuracy_record("rotation", NORMAL, "top1", correct, len(turned), angle=angle)
