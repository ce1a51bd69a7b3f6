"""Memory and time of relevance maps as images grow: in blocks of queries, or with whole maps.

    uv run python benchmarks/relevance_memory.py
    uv run python benchmarks/relevance_memory.py --sizes 224 --repeats 1
    uv run python benchmarks/relevance_memory.py --model crossvit_small_240 --sizes 480 720
    uv run python benchmarks/relevance_memory.py --device cuda

Each peak is of a process of its own, because a process never gives its peak back. `ours` is
`vitreous.relevance`; `maps` is the same method from recorded attention maps (what every tool that
hooks attention does); `floor` is a forward pass and a backward pass that reaches the image, which
records nothing; `step` is RobustViT's training step; `forward` is the bare forward pass,
whose peak is taken off all. The arithmetic is what maps and their gradients of all layers must hold
in float32. For time, ours, maps and the floor take turns in one process: medians, with half of what
lies between the quartiles; the ratio (ours / maps) and the floor's share (its time over ours) are
medians of paired ones, and the last column is the largest difference of the maps, which are in
[0, 1].
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from torch import Tensor

import passes
import vitreous
from memory import high_water
from relevance import our_step
from turns import medians, ratio, spread, take_turns
from vitreous.attribution import recorded_pass
from vitreous.attribution.maps import min_max
from vitreous.attribution.methods import GradientAttention
from vitreous.data.batch import Batch
from vitreous.models.families import layout_of
from vitreous.models.forward import record_forward

Kind = Literal["forward", "ours", "maps", "floor", "step", "turns"]
BEYOND: tuple[Kind, ...] = ("maps", "ours", "floor", "step")
TIMED: tuple[Kind, ...] = ("maps", "ours", "floor")


def from_maps(classifier: vitreous.Classifier, images: Tensor) -> Tensor:
    """Gradient × attention from recorded maps."""
    made = record_forward(classifier, images, attention=True)
    classes = made.logits.detach().argmax(1)
    layout = layout_of(classifier.net, (images.shape[-2], images.shape[-1]))
    recorded = recorded_pass(made, classes, layout, 0, False, False)
    with torch.no_grad():
        return min_max(GradientAttention()(recorded))[0]


@dataclass
class Arguments:
    """Settings of the benchmark."""

    model: str = "vit_small_patch16_224"
    sizes: tuple[int, ...] = (224, 512, 768, 1024)
    batch: int = 1
    repeats: int = 3
    threads: int = 2
    device: str = "cpu"
    kind: Kind | None = None
    """Measure one kind at the first size in this process, and print it as JSON."""


def measure(arguments: Arguments) -> dict[str, float]:
    """Peak memory in MiB of one kind, or seconds of two that take turns."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    size = arguments.sizes[0]
    classifier = vitreous.load_model(arguments.model, pretrained=False, image_size=size)
    classifier = classifier.to(arguments.device)
    images = torch.rand(arguments.batch, 3, size, size, device=arguments.device)

    def forward() -> None:
        with torch.no_grad():
            classifier(images)

    work: dict[str, Callable[[], object]] = {
        "maps": lambda: from_maps(classifier, images),
        "ours": lambda: vitreous.relevance(classifier, images),
        "floor": passes.bare(classifier, images, len(images))["forward and backward"],
        "forward": forward,
        "step": step_of(classifier, images),
    }
    if arguments.kind == "turns":
        timed = {name: work[name] for name in TIMED}
        times = take_turns(timed, arguments.repeats, arguments.device)
        spreads = {f"{name} spread": spread(taken) for name, taken in times.items()}
        maps = from_maps(classifier, images)
        difference = float((maps - vitreous.relevance(classifier, images)).abs().max())
        shared = {"ratio": ratio(times, "ours", "maps"), "difference": difference}
        shared["share"] = ratio(times, "floor", "ours")
        return medians(times) | spreads | shared
    for _ in range(2):
        work[arguments.kind or "ours"]()
    return {"peak": high_water(arguments.device)}


def step_of(classifier: vitreous.Classifier, images: Tensor) -> Callable[[], object]:
    """RobustViT's training step; the optimiser holds nothing and moves nothing."""
    count, device = len(images), images.device
    masks = torch.zeros(count, 1, *images.shape[-2:], device=device)
    masks[..., : images.shape[-2] // 2, :] = 1
    labels = torch.arange(count, device=device)
    batch = Batch(images, labels, masks, torch.ones_like(labels, dtype=torch.bool), labels)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.0)

    def step() -> object:
        classifier.train()
        return our_step(classifier, optimizer, batch)

    return step


def size_of_maps(model: str, size: int) -> tuple[int, int]:
    """Tokens of the longest stream, and numbers of all layers' maps of one image."""
    net = vitreous.load_model(model, pretrained=False, image_size=size).net
    modules, layout = dict(net.named_modules()), layout_of(net, (size, size))
    numbers = 0
    for name, mixing in layout.layers.items():
        own, other = layout.streams[mixing.queries], layout.streams[mixing.keys]
        crossed = 1 + other.tokens - other.prefix  # a CLS token reads itself and their patches
        area = crossed if mixing.crosses else own.tokens**2
        numbers += int(modules[name].num_heads) * area
    return max(stream.tokens for stream in layout.streams), numbers


def apart(arguments: Arguments, size: int, kind: Kind) -> dict[str, float]:
    """Measure in a process of its own."""
    options = [f"--batch={arguments.batch}", f"--repeats={arguments.repeats}"]
    options += [f"--threads={arguments.threads}", f"--model={arguments.model}", f"--kind={kind}"]
    options.append(f"--device={arguments.device}")
    command = [sys.executable, __file__, "--sizes", str(size), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Arguments) -> None:
    """Print a row for each size."""
    if arguments.kind is not None:
        print(json.dumps(measure(arguments)))
        return
    print(f"{arguments.model}, batch {arguments.batch}: MiB beyond the forward pass, and seconds")
    print(
        "tokens  arithmetic   maps   ours  floor   step       maps           ours          floor"
        "         ratio  share  difference"
    )
    for size in arguments.sizes:
        tokens, numbers = size_of_maps(arguments.model, size)
        arithmetic = 2 * 4 * numbers * arguments.batch / 2**20
        bare = apart(arguments, size, "forward")["peak"]
        peaks = [apart(arguments, size, kind)["peak"] - bare for kind in BEYOND]
        turns = apart(arguments, size, "turns")
        times = [f"{turns[k]:7.2f} s ±{turns[f'{k} spread']:4.0%}" for k in TIMED]
        print(
            f"{tokens:6d}  {arithmetic:10.0f} {' '.join(f'{p:6.0f}' for p in peaks)} "
            f"{' '.join(times)}  {turns['ratio']:5.2f}  {turns['share']:5.2f}  "
            f"{turns['difference']:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
