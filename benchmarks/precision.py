"""What bfloat16 gains and changes: forward pass, activations, relevance, step, attack, masks.

    uv run python benchmarks/precision.py --model MODEL --images FOLDER

MODEL is a folder of a trained classifier, FOLDER has its classes as folders. Both types take turns
on the same batches, so that a busy machine slows both alike; times are medians of the wall clock.
What changes is told for each image: the predicted class; the rank correlation of its relevance
map and the overlap of the maps' highest tenth; for PGD, the share of images on which the *float32*
model is right after an attack that was searched in either type; for masks, their intersection over
union; for the activations of the middle block, the length of the difference as a share of theirs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import spearmanr
from torch import Tensor

import vitreous
from turns import medians, take_turns
from vitreous.attacks import PGD
from vitreous.brain.layers import record_layers
from vitreous.data.batch import Batch
from vitreous.data.images import evaluation_transform
from vitreous.data.readers import read_dataset
from vitreous.masks.base import Found, MaskItem
from vitreous.masks.methods.relevance import Relevance as RelevanceMasks
from vitreous.masks.methods.tokencut import TokenCut
from vitreous.masks.quality import intersection_over_union
from vitreous.models import Classifier, load_model
from vitreous.precision import Precision, autocast, fast_in_bfloat16
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.step import Share, compute_loss

MAKERS = {"tokencut": TokenCut, "relevance": RelevanceMasks}
TYPES: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclasses.dataclass
class Settings:
    """Settings of the benchmark."""

    model: Path
    images: Path
    count: int = 256
    """Images of what changes."""
    batch: int = 32
    repeats: int = 5
    """Turns that each type takes."""
    threads: int = 2
    epsilon: float = 1 / 255
    steps: int = 10
    """Steps of PGD."""
    device: str = "cpu"
    out: Path | None = None
    """JSON file to write."""


def read(settings: Settings, model: Classifier) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) and labels (N,), evenly spread over the folder."""
    dataset = read_dataset(settings.images)
    chosen = np.linspace(0, len(dataset) - 1, settings.count).astype(int)
    view = evaluation_transform(model.preprocessing)
    images = [view(dataset.images.open(int(i))) for i in chosen]
    return torch.stack(images), torch.tensor([dataset.label(int(i)) for i in chosen])


def kinds(model: Classifier) -> Iterator[tuple[Precision, AbstractContextManager[object]]]:
    """Each type with its context."""
    for precision in TYPES:
        yield precision, autocast(model.device, precision)


def seconds(work: Callable[[], object], model: Classifier, repeats: int) -> dict[str, float]:
    """Median seconds in each type, taking turns; the first turn is not counted."""

    def inside(precision: Precision) -> None:
        with autocast(model.device, precision):
            work()

    turns = {precision: partial(inside, precision) for precision in TYPES}
    return medians(take_turns(turns, repeats, str(model.device)))


def forward(model: Classifier, images: Tensor) -> Tensor:
    """Logits without a graph."""
    with torch.no_grad():
        return model(images)


def step(model: Classifier, images: Tensor, labels: Tensor) -> None:
    """RobustViT's loss and its gradients; the weights stay as they are."""
    masks = images.new_zeros(len(images), 1, *images.shape[-2:])
    masks[..., 28:84, 28:84] = 1.0
    batch = Batch(images, labels, masks, torch.ones_like(labels, dtype=torch.bool), labels)
    objectives = {"classification": Classification(weight=0.2), "relevance": Relevance(weight=0.8)}
    compute_loss(model, model, batch, objectives).scaled(Share.whole(batch)).backward()
    model.zero_grad()


def attack(settings: Settings) -> PGD:
    """The attack, which begins at the image itself: both types search from the same start."""
    return PGD(epsilon=settings.epsilon, steps=settings.steps, random_start=False)


def activations(model: Classifier, images: Tensor) -> Tensor:
    """What the middle block gives (B, units), as it is recorded for the brain's scores."""
    name = f"blocks.{len(model.net.get_submodule('blocks')) // 2}"
    with torch.no_grad(), record_layers(model, [name]) as recorded:
        model(images)
        return recorded[name]


def mask_method(settings: Settings, name: str, precision: Precision) -> Callable[..., list[Found]]:
    """One of the package's makers of masks, by the model itself."""
    method = MAKERS[name](model=str(settings.model), precision=precision, device=settings.device)

    def make(items: list[MaskItem]) -> list[Found]:
        parts = (
            method.find(items[i : i + settings.batch]) for i in range(0, len(items), settings.batch)
        )
        return [found for part in parts for found in part if isinstance(found, Found)]

    return make


def of_masks(settings: Settings) -> tuple[dict[str, dict[str, float]], dict[str, list[float]]]:
    """Seconds of a batch in both types, by maker, and mean and least IoU of the two masks."""
    taken, agreement = {}, {}
    for name in MAKERS:
        makers = {kind: mask_method(settings, name, kind) for kind in TYPES}
        every = MAKERS[name](model=str(settings.model)).items(settings.images)
        items = [every[i] for i in np.linspace(0, len(every) - 1, settings.count).astype(int)]
        first = items[: settings.batch]
        turns = {kind: partial(make, first) for kind, make in makers.items()}
        taken[f"masks, {name}"] = medians(take_turns(turns, settings.repeats, settings.device))
        pairs = zip(*(make(items) for make in makers.values()), strict=True)
        shared = [intersection_over_union(a.mask, b.mask) for a, b in pairs]
        agreement[f"iou_{name}"] = [float(np.mean(shared)), float(np.min(shared))]
    return taken, agreement


def speed(settings: Settings, model: Classifier, images: Tensor, labels: Tensor) -> dict:
    """Seconds of each work in both types, on one batch."""
    images, labels = images[: settings.batch], labels[: settings.batch]
    works: dict[str, Callable[[], object]] = {
        "forward": lambda: forward(model, images),
        "activations": lambda: activations(model, images),
        "relevance": lambda: vitreous.relevance(model, images, labels),
        "step": lambda: step(model, images, labels),
        "attack": lambda: attack(settings)(model, images, labels),
    }
    return {name: seconds(work, model, settings.repeats) for name, work in works.items()}


def in_batches(
    work: Callable[[Tensor, Tensor], Tensor], settings: Settings, images: Tensor, labels: Tensor
) -> Tensor:
    """The work's results for all images."""
    parts = zip(images.split(settings.batch), labels.split(settings.batch))
    return torch.cat([work(x, y) for x, y in parts])


def changes(settings: Settings, model: Classifier, images: Tensor, labels: Tensor) -> dict:
    """What is not the same in bfloat16."""

    def both(work: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        results = []
        for _, context in kinds(model):
            with context:
                results.append(in_batches(work, settings, images, labels).float())
        return results

    exact, rounded = both(lambda x, y: forward(model, x))
    maps = [m.cpu() for m in both(lambda x, y: vitreous.relevance(model, x, y))]
    found = both(lambda x, y: attack(settings)(model, x, y))
    right = [
        in_batches(lambda x, y: forward(model, x).argmax(1) == y, settings, moved, labels)
        for moved in found
    ]
    units = both(lambda x, y: activations(model, x))
    ranks = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(*maps)]
    return {
        "images": len(images),
        "accuracy": [float((z.argmax(1) == labels).float().mean()) for z in (exact, rounded)],
        "other_predictions": int((exact.argmax(1) != rounded.argmax(1)).sum()),
        "activations_difference": float((units[0] - units[1]).norm() / units[0].norm()),
        "largest_logit_difference": float((exact - rounded).abs().max()),
        "rank_correlation": [float(np.mean(ranks)), float(np.min(ranks))],
        "top_decile_overlap": [float(f(overlaps(*maps))) for f in (np.mean, np.min)],
        "largest_map_difference": float((maps[0] - maps[1]).abs().max()),
        "robust_accuracy": [float(r.float().mean()) for r in right],
        "robust_in_one_only": [int((right[k] & ~right[1 - k]).sum()) for k in (0, 1)],
    }


def overlaps(first: Tensor, second: Tensor) -> np.ndarray:
    """For each image the share of the highest tenth of one map that is in that of the other."""
    count = first[0].numel() // 10
    tops = [maps.flatten(1).topk(count).indices.tolist() for maps in (first, second)]
    return np.array([len({*a} & {*b}) / count for a, b in zip(*tops)])


def main(settings: Settings) -> None:
    """Print speed and changes, and write them."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    model = load_model(str(settings.model)).eval().to(settings.device)
    images, labels = (t.to(settings.device) for t in read(settings, model))
    if not fast_in_bfloat16(model.device):
        print("this device has no instructions for bfloat16: expect no gain")
    of_types, shared = of_masks(settings)
    taken = speed(settings, model, images, labels) | of_types
    print(f"{settings.model.name}, batch {settings.batch}, {settings.threads} threads, seconds")
    for name, times in taken.items():
        gain = times["float32"] / times["bfloat16"]
        print(f"  {name:16} {times['float32']:7.3f}  {times['bfloat16']:7.3f}  {gain:5.2f} ×")
    changed = changes(settings, model, images, labels) | shared
    for name, value in changed.items():
        print(f"  {name:26} {value}")
    if settings.out is not None:
        settings.out.write_text(json.dumps({"seconds": taken, "changes": changed}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
