"""Targeted perturbations: what a model must see to say another class."""

from __future__ import annotations

from pathlib import Path

import torch

from vitreous.attacks import PGD
from vitreous.data.images import save_image
from vitreous.demo.measure import NORMAL, TestPictures
from vitreous.io import write_json
from vitreous.models import Classifier

EPSILON = 24 / 255
AMPLIFIED = 4


def draw_strips(
    classifier: Classifier, tests: TestPictures, folder: Path, *, count: int = 3, seed: int = 0
) -> None:
    """Push some pictures towards another class and write what comes out.

    Files are `targeted/{i}_{picture,pushed,difference}.png` with `targeted/targeted.json`; the
    difference is drawn four times as strong, on grey.
    """
    images, labels = tests.sets[NORMAL][:count], tests.labels[:count]
    targets = (labels + 1 + torch.arange(count)) % classifier.num_classes
    attack = PGD(epsilon=EPSILON, steps=30, early_stop=False)
    generator = torch.Generator().manual_seed(seed)
    pushed = attack(classifier, images, labels, targets=targets, generator=generator)
    with torch.no_grad():
        said = classifier(pushed).argmax(1).tolist()
    listing = []
    for place in range(count):
        name, goal = (classifier.class_name(int(c[place])) for c in (labels, targets))
        difference = (0.5 + AMPLIFIED * (pushed[place] - images[place])).clamp(0, 1)
        shown = {
            name: images[place],
            f"said: {classifier.class_name(said[place])}": pushed[place],
            f"difference × {AMPLIFIED}": difference,
        }
        files = {}
        for part, (caption, image) in enumerate(shown.items()):
            files[caption] = f"{place}_{('picture', 'pushed', 'difference')[part]}.png"
            save_image(image, folder / "targeted" / files[caption])
        listing.append({"title": f"{name} → {goal}", "files": files})
    write_json(folder / "targeted" / "targeted.json", listing)
