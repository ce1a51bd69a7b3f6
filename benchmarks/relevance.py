"""Speed of relevance maps and of a RobustViT step against the published formulation and the floor.

    uv run python benchmarks/relevance.py
    uv run python benchmarks/relevance.py --device cuda
    uv run python benchmarks/relevance.py --model vit_tiny_patch16_224 --batch 2 --repeats 1

The published formulation asks autograd for one layer at a time, multiplies whole matrices, and
makes a forward pass of its own for the map, for the loss, and once more through the original
model to print its accuracy. The floor is what the arithmetic must cost: one forward pass and one
backward pass that reaches the activations only (and, for the step, one full backward pass). The
share of the floor is its time over that of each; all three are timed under bfloat16 too, where the
floor is that of bfloat16. The alternatives take turns, so that a busy machine slows all of them
alike; told are medians, half of what lies between the quartiles, and, measured apart, the peak of
memory beyond what was there before (model and images; for the step the optimiser's state too).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

import vitreous
from turns import compare
from vitreous.data.batch import Batch
from vitreous.precision import autocast
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.step import Share, compute_loss


def published_relevance(classifier: vitreous.Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """One gradient call a layer, full-matrix propagation."""
    with vitreous.record_attention(classifier) as trace:
        logits = classifier(images)
    score = logits.gather(1, labels[:, None]).sum()
    tokens = trace.maps[0].shape[-1]
    matrix = torch.eye(tokens).expand(len(images), tokens, tokens)
    for attention in trace.maps:
        (gradient,) = torch.autograd.grad(score, [attention], retain_graph=True)
        cam = (gradient * attention).clamp(min=0).mean(1)
        matrix = matrix + torch.bmm(cam, matrix)
    side = int((tokens - 1) ** 0.5)
    patches = matrix[:, 0, 1:].reshape(-1, 1, side, side)
    maps = F.interpolate(patches, scale_factor=16, mode="bilinear")
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low)


def published_step(
    classifier: vitreous.Classifier,
    original: vitreous.Classifier,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
) -> Tensor:
    """A forward pass for the map, one for the loss, one of the original model."""
    maps = published_relevance(classifier, batch.images, batch.labels)
    logits = classifier(batch.images)
    with torch.no_grad():
        original(batch.images)
    background = F.mse_loss(maps * (1 - batch.masks), torch.zeros_like(maps))
    foreground = F.mse_loss(maps * batch.masks, batch.masks)
    classification = F.cross_entropy(logits, logits.detach().argmax(1))
    loss = 0.8 * (2 * background + 0.3 * foreground) + 0.2 * classification
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def our_step(
    classifier: vitreous.Classifier, optimizer: torch.optim.Optimizer, batch: Batch
) -> Tensor:
    """The step of the engine."""
    objectives = {"classification": Classification(0.2, "prediction"), "relevance": Relevance(0.8)}
    loss = compute_loss(classifier, classifier, batch, objectives)
    optimizer.zero_grad()
    loss.scaled(Share.whole(batch)).backward()
    optimizer.step()
    return loss.figures["loss"]


def floor_relevance(classifier: vitreous.Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """A forward pass and a backward pass down to the first layer's attention."""
    with vitreous.record_attention(classifier) as trace:
        logits = classifier(images)
    score = logits.gather(1, labels[:, None]).sum()
    return torch.autograd.grad(score, trace.maps[:1])[0]


def floor_step(
    classifier: vitreous.Classifier, optimizer: torch.optim.Optimizer, batch: Batch
) -> Tensor:
    """A forward pass, a backward pass to the activations, a full backward pass, the optimiser."""
    with vitreous.record_attention(classifier) as trace:
        logits = classifier(batch.images)
    score = logits.gather(1, batch.labels[:, None]).sum()
    torch.autograd.grad(score, trace.maps[:1], retain_graph=True)
    loss = F.cross_entropy(logits, batch.labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def add_bfloat16(
    work: dict[str, Callable[[], Tensor]], device: str = "cpu"
) -> dict[str, Callable[[], Tensor]]:
    """The alternatives, and all of them once more under bfloat16."""

    def rounded(call: Callable[[], Tensor]) -> Tensor:
        with autocast(torch.device(device), "bfloat16"):
            return call()

    return work | {f"{name}, bf16": partial(rounded, call) for name, call in work.items()}


@dataclass
class Arguments:
    """Settings of the benchmark."""

    model: str = "deit_small_patch16_224"
    batch: int = 8
    repeats: int = 5
    threads: int = 2
    device: str = "cpu"


def show(title: str, work: dict[str, Callable[[], Tensor]], arguments: Arguments) -> None:
    """Print a line for each alternative, in float32 and in bfloat16."""
    device = arguments.device
    print(f"\n{title}")
    print(*compare(add_bfloat16(work, device), arguments.repeats, device), sep="\n", flush=True)


def main(arguments: Arguments) -> None:
    """Check that the numbers agree, then time."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = arguments.device
    classifier = vitreous.load_model(arguments.model, pretrained=False).train()
    classifier = classifier.to(device)
    original = copy.deepcopy(classifier).eval()
    images = torch.rand(arguments.batch, 3, 224, 224)
    labels = torch.arange(arguments.batch)
    masks = torch.zeros(arguments.batch, 1, 224, 224)
    masks[..., 56:168, 56:168] = 1
    images, labels, masks = (t.to(device) for t in (images, labels, masks))
    rows = torch.ones(arguments.batch, dtype=torch.bool, device=device)
    batch = Batch(images, labels, masks, rows, labels)

    difference = vitreous.relevance(classifier, images, labels) - published_relevance(
        classifier, images, labels
    )
    print(f"{arguments.model}, batch {arguments.batch}, {arguments.threads} threads")
    print(f"largest difference of the maps: {difference.abs().max():.1e}")
    work: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: vitreous.relevance(classifier, images, labels),
        "published": lambda: published_relevance(classifier, images, labels).detach(),
        "floor": lambda: floor_relevance(classifier, images, labels),
    }
    show("relevance", work, arguments)

    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-6)
    work = {
        "ours": lambda: our_step(classifier, optimizer, batch),
        "published": lambda: published_step(classifier, original, optimizer, batch),
        "floor": lambda: floor_step(classifier, optimizer, batch),
    }
    show("RobustViT training step", work, arguments)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
