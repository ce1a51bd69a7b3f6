"""Memory and time of relevance maps as images grow: in blocks of queries, or with whole maps.

    uv run python benchmarks/relevance_memory.py
    uv run python benchmarks/relevance_memory.py --sizes 224 --repeats 1
    uv run python benchmarks/relevance_memory.py --device cuda

Each row is a process of its own, because a process never gives its peak back. `ours` is
`vitreous.relevance`; `maps` is the same method from recorded attention maps (what every tool that
hooks attention does); `forward` is the bare forward pass, whose peak is taken off both. The
arithmetic is what maps and their gradients of all layers must hold in float32.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from torch import Tensor

import vitreous
from turns import medians, take_turns
from vitreous.attribution import recorded_pass
from vitreous.attribution.maps import min_max
from vitreous.attribution.methods import GradientAttention
from vitreous.models.families import layout_of
from vitreous.models.forward import record_forward

Kind = Literal["forward", "ours", "maps"]


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
    """Seconds and peak memory in MiB of one kind."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    size = arguments.sizes[0]
    classifier = vitreous.load_model(arguments.model, pretrained=False, image_size=size)
    classifier = classifier.to(arguments.device)
    images = torch.rand(arguments.batch, 3, size, size, device=arguments.device)

    def forward() -> None:
        with torch.no_grad():
            classifier(images)

    work = {
        "maps": lambda: from_maps(classifier, images),
        "ours": lambda: vitreous.relevance(classifier, images),
        "forward": forward,
    }
    kind = arguments.kind or "ours"
    times = take_turns({kind: work[kind]}, arguments.repeats, arguments.device)
    return {"seconds": medians(times)[kind], "peak": peak_mebibytes(arguments.device)}


def peak_mebibytes(device: str) -> float:
    """Peak of the allocator on a GPU, of the process's resident memory elsewhere."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
    net = vitreous.load_model(arguments.model, pretrained=False).net
    layers, heads = len(net.blocks), net.blocks[0].attn.num_heads
    patch = net.patch_embed.patch_size[0]
    print("tokens  arithmetic   maps    ours   (MiB beyond the forward pass)   maps s   ours s")
    for size in arguments.sizes:
        tokens = (size // patch) ** 2 + 1
        arithmetic = 2 * 4 * layers * heads * tokens**2 * arguments.batch / 2**20
        rows = {kind: apart(arguments, size, kind) for kind in ("forward", "maps", "ours")}
        beyond = {k: rows[k]["peak"] - rows["forward"]["peak"] for k in ("maps", "ours")}
        print(
            f"{tokens:6d}  {arithmetic:10.0f} {beyond['maps']:6.0f}  {beyond['ours']:6.0f}"
            f"{'':35}{rows['maps']['seconds']:7.2f}  {rows['ours']['seconds']:7.2f}"
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
