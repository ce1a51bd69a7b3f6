"""What bfloat16 gains and changes: forward pass, activations, relevance, step, attack, masks.

    uv run python benchmarks/precision.py --model MODEL --images FOLDER

MODEL is a folder of a trained classifier, FOLDER has its classes as folders. Both types, and the
floor of each in both, take turns on the same batch, so that a busy machine slows all alike; told
are medians of the wall clock, half of what lies between the quartiles, the floor's share (its time
over that of each) and, measured apart, the peak of memory beyond what was there. The alternative to
bfloat16 is float32; the floor is the passes of the model that the work asks for: one forward pass
(activations, TokenCut), a forward pass and a backward pass that reaches the images (relevance, and
masks by it), the same and a full backward pass (step), those that PGD makes, counted (attack).
What changes is told for each image: the predicted class; the rank correlation of its relevance
map and the overlap of the maps' highest tenth; for PGD, the share of images on which the *float32*
model is right after an attack that was searched in either type; for masks, their intersection over
union; for the activations of the middle block, the length of the difference as a share of theirs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import spearmanr
from torch import Tensor

import passes
import vitreous
from memory import peaks
from relevance import floor_step
from turns import medians, spread, table, take_turns
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


Call = Callable[[], object]
Scale = dict[Precision, float]


def in_type(model: Classifier, call: Call, precision: Precision) -> Call:
    """The call in a type."""

    def inside() -> object:
        with autocast(model.device, precision):
            return call()

    return inside


def show(
    settings: Settings,
    model: Classifier,
    name: str,
    calls: Mapping[Precision, Call],
    floor: Call | None = None,
    scale: Scale | None = None,
) -> dict[str, dict[str, float]]:
    """Print a line for each type; the first turn is not counted.

    Args:
        settings: Repeats.
        model: Where it runs.
        name: Of the work.
        calls: The work in each type.
        floor: Passes, in no type yet; none where the work is the floor itself.
        scale: How often the work makes them; once where not given.

    Returns:
        By type, the median seconds, their spread, and the peak MiB.
    """
    device = str(model.device)
    work: dict[str, Call] = dict(calls)
    if floor is not None:
        work |= {f"floor, {kind}": in_type(model, floor, kind) for kind in calls}
    times = take_turns(work, settings.repeats, device)
    floors = {
        kind: [(scale or {}).get(kind, 1.0) * seconds for seconds in times[f"floor, {kind}"]]
        for kind in (calls if floor is not None else ())
    }
    needed = peaks(calls, device)
    print(f"{name}", *table(times, needed, floors, base="float32"), sep="\n", flush=True)
    return {
        "seconds": medians({kind: times[kind] for kind in calls}),
        "spread": {kind: spread(times[kind]) for kind in calls},
        "mebibytes": needed,
    }


def forward(model: Classifier, images: Tensor) -> Tensor:
    """Logits without a graph."""
    with torch.no_grad():
        return model(images)


def batch_of(images: Tensor, labels: Tensor) -> Batch:
    """A batch with a box as the mask of each."""
    masks = images.new_zeros(len(images), 1, *images.shape[-2:])
    masks[..., 28:84, 28:84] = 1.0
    return Batch(images, labels, masks, torch.ones_like(labels, dtype=torch.bool), labels)


def step(model: Classifier, images: Tensor, labels: Tensor) -> None:
    """RobustViT's loss and its gradients; the weights stay as they are."""
    batch = batch_of(images, labels)
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


def agreement(settings: Settings) -> dict[str, list[float]]:
    """Mean and least IoU of the masks of both types, by maker."""
    told = {}
    for name in MAKERS:
        pairs = zip(*(make(items_of(settings, name)) for make in makers(settings, name).values()))
        shared = [intersection_over_union(a.mask, b.mask) for a, b in pairs]
        told[f"iou_{name}"] = [float(np.mean(shared)), float(np.min(shared))]
    return told


def makers(settings: Settings, name: str) -> dict[Precision, Callable[..., list[Found]]]:
    """One maker in both types."""
    return {kind: mask_method(settings, name, kind) for kind in TYPES}


def items_of(settings: Settings, name: str) -> list[MaskItem]:
    """What a maker is given, evenly spread over the folder."""
    every = MAKERS[name](model=str(settings.model)).items(settings.images)
    return [every[i] for i in np.linspace(0, len(every) - 1, settings.count).astype(int)]


def speed(settings: Settings, model: Classifier, images: Tensor, labels: Tensor) -> dict:
    """Seconds, spread and memory of each work in both types, on one batch."""
    images, labels = images[: settings.batch], labels[: settings.batch]
    one, both = passes.bare(model, images, settings.batch).values()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    counted: Scale = {}
    for kind in TYPES:
        search = in_type(model, lambda: attack(settings)(model, images, labels), kind)
        counted[kind] = passes.count(model, search)[1] / len(images)
    works: dict[str, tuple[Call, Call | None, Scale | None]] = {
        "forward": (lambda: forward(model, images), None, None),
        "activations": (lambda: activations(model, images), one, None),
        "relevance": (lambda: vitreous.relevance(model, images, labels), both, None),
        "step": (
            lambda: step(model, images, labels),
            lambda: floor_step(model, optimizer, batch_of(images, labels)),
            None,
        ),
        "attack": (lambda: attack(settings)(model, images, labels), both, counted),
    }
    told = {}
    for name, (work, floor, scale) in works.items():
        calls = {kind: in_type(model, work, kind) for kind in TYPES}
        told[name] = show(settings, model, name, calls, floor, scale)
    for name, floor in zip(MAKERS, (one, both)):
        first = items_of(settings, name)[: settings.batch]
        calls = {kind: partial(make, first) for kind, make in makers(settings, name).items()}
        told[f"masks, {name}"] = show(settings, model, f"masks, {name}", calls, floor)
    return told


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
    print(f"{settings.model.name}, batch {settings.batch}, {settings.threads} threads")
    taken = speed(settings, model, images, labels)
    changed = changes(settings, model, images, labels) | agreement(settings)
    print(f"what changes, {settings.count} images: float32 and bfloat16, or mean and least")
    for name, value in changed.items():
        print(f"  {name:26} {value}")
    if settings.out is not None:
        settings.out.write_text(json.dumps({"speed": taken, "changes": changed}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
