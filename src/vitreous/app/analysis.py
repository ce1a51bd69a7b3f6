"""What the page shows of one model and one image: answers and maps, turned and attacked."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from vitreous.attacks import PGD
from vitreous.attribution import explain
from vitreous.attribution.draw import overlay
from vitreous.data.images import evaluation_transform
from vitreous.data.rotation import rotate
from vitreous.errors import UnsupportedModelError
from vitreous.models import Classifier

# Relevance records attention by hooks, switches fused attention off and swaps the last block's
# class meanwhile, so that models serve one visitor at a time.
_LOCK = threading.Lock()
TOP = 5


@dataclasses.dataclass(frozen=True)
class PerturbationChoice:
    """What is done to the image before the model sees it.

    Attributes:
        angle: Degrees by which it is turned, counterclockwise; corners that come in are black.
        epsilon: Radius of the L∞ attack, of images in [0, 1]; 0 for none.
        steps: Gradient steps of the attack.
    """

    angle: float = 0.0
    epsilon: float = 0.0
    steps: int = 10


@dataclasses.dataclass(frozen=True)
class ModelView:
    """What one model makes of an image.

    Attributes:
        top: Class, name and probability of the five most probable classes, best first.
        unperturbed: Name and probability of the best class before the attack.
        target: The class that the maps explain.
        image: (3, H, W) in [0, 1], as the model saw it.
        difference: (3, H, W) in [0, 1], what the attack added: −ε is 0, +ε is 1; None without one.
        maps: Method → map laid over the image (3, H, W) in [0, 1].
        notes: What the reader must know: methods that do not hold, constant maps.
    """

    top: Sequence[tuple[int, str, float]]
    unperturbed: tuple[str, float]
    target: int
    image: Tensor
    difference: Tensor | None
    maps: dict[str, Tensor]
    notes: Sequence[str]


def analyse(
    classifier: Classifier,
    image: Image.Image,
    methods: Sequence[str],
    target: int | None = None,
    perturbation: PerturbationChoice | None = None,
) -> ModelView:
    """Classify and explain one image.

    Args:
        classifier: The model; it is left as it was.
        image: The image, RGB.
        methods: Relevance methods.
        target: Class to explain; the predicted one by default, and where the model has no such.
        perturbation: How the image is turned and attacked first; not at all by default. The
            attack leads away from what the model says of the turned image, and has no random
            start, so that the same request gives the same answer.
    """
    wanted = perturbation or PerturbationChoice()
    clean = rotate(evaluation_transform(classifier.preprocessing)(image), wanted.angle)
    images = clean[None].to(classifier.device)
    with _LOCK:
        with torch.no_grad():
            before = classifier(images).float().softmax(1)[0]
        best = int(before.argmax())
        if wanted.epsilon > 0:
            attack = PGD(epsilon=wanted.epsilon, steps=wanted.steps, random_start=False)
            images = attack(classifier, images, torch.tensor([best], device=images.device))
        view = _explained(classifier, images, methods, target, before)
    if wanted.epsilon > 0:
        added = (view.image - clean) / (2 * wanted.epsilon) + 0.5
        view = dataclasses.replace(view, difference=added.clamp(0, 1))
    return view


def _explained(
    classifier: Classifier,
    images: Tensor,
    methods: Sequence[str],
    target: int | None,
    before: Tensor,
) -> ModelView:
    with torch.no_grad():
        probabilities = classifier(images).float().softmax(1)[0].cpu()
    values, classes = probabilities.topk(min(TOP, len(probabilities)))
    best = int(before.argmax())
    chosen = int(classes[0])
    if target is not None and 0 <= target < len(probabilities):
        chosen = target
    image, maps, notes = images[0].cpu(), {}, []
    for method in methods:
        try:
            found = explain(classifier, images, chosen, method)
        except UnsupportedModelError:
            notes.append(f"{method.replace('_', ' ')} does not hold for this family of models")
            continue
        maps[method] = overlay(image, found.relevance[0].cpu())
        if bool(found.constant[0]):
            notes.append(f"the map of {method.replace('_', ' ')} is constant, shown as zeros")
    return ModelView(
        [(int(c), classifier.class_name(int(c)), float(v)) for v, c in zip(values, classes)],
        (classifier.class_name(best), float(before[best])),
        chosen,
        image,
        None,
        maps,
        notes,
    )
