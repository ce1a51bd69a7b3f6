"""Targeted perturbations: what a model must see to say another class."""

from __future__ import annotations

from pathlib import Path

from vitreous.attacks import PGD
from vitreous.attacks.figures import attack_frames
from vitreous.attacks.panels import add_panel
from vitreous.demo.measure import NORMAL, TestImages
from vitreous.models import Classifier

EPSILONS = (8 / 255, 24 / 255)


def draw_strips(
    classifier: Classifier, tests: TestImages, folder: Path, *, count: int = 3, seed: int = 0
) -> None:
    """Push some images towards another class and put the strips into the run folder."""
    for place in range(count):
        label = int(tests.labels[place])
        target = (label + 1 + place) % classifier.num_classes
        frames = attack_frames(
            classifier, tests.sets[NORMAL][place], label, PGD(steps=30), EPSILONS, target, seed
        )
        title = f"{classifier.class_name(label)} → {classifier.class_name(target)}"
        add_panel(folder, str(place), title, frames)
