"""Throughput of TokenCut: pictures a second, and the share of the time spent in the backbone.

    python benchmarks/masks.py --photos PHOTOS --checkpoint WEIGHTS.safetensors --patch 16

First the whole of `vitreous mask` is run on a folder of photos (read, resize, cut, refine at the
photo's size, measure, write masks and manifest) while a hook times the model. Then the parts in
memory: the floor is the model's forward pass on the same batch; the named alternative for the cut
is LAPACK's dense generalised eigensolver, as published. Each round times all parts one after the
other; medians over the rounds.

`--clock cpu` counts the process's own CPU time, which holds on a busy machine too (with one thread;
waiting for the disk is not in it). Without `--checkpoint` the weights are random: all patches are
then alike, so features are centred in memory, and there is no run on photos.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from torch.nn import functional as F

from vitreous.data.images import list_images, load_image, to_uint8
from vitreous.masks import write_masks
from vitreous.masks.edges import refine
from vitreous.masks.eigenvectors import second_eigenvectors
from vitreous.masks.methods.tokencut import TokenCut
from vitreous.masks.tokencut import affinity, best_features, partition, patch_features
from vitreous.models import Classifier, load_model


def dense(matrix: np.ndarray) -> np.ndarray:
    degree = np.diag(matrix.sum(1))
    return scipy.linalg.eigh(degree - matrix, degree, subset_by_index=[1, 1])[1][:, 0]


def now(arguments: argparse.Namespace) -> float:
    if arguments.device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.process_time() if arguments.clock == "cpu" else time.perf_counter()


def whole(classifier: Classifier, photos: Path, arguments: argparse.Namespace) -> str:
    """Run the command's own function on photos; the model's time comes from hooks."""
    spent: list[float] = []
    source = TokenCut(device=arguments.device)
    source.__dict__["classifier"] = classifier
    hooks = [
        classifier.register_forward_pre_hook(lambda *_: spent.append(-now(arguments))),
        classifier.register_forward_hook(lambda *_: spent.append(now(arguments))),
    ]
    shares, totals = [], []
    for _ in range(arguments.rounds + 1):  # the first imports what is imported where it is used
        spent.clear()
        with tempfile.TemporaryDirectory() as folder:
            start = now(arguments)
            rows = write_masks(source, photos, Path(folder), batch_size=arguments.batch).rows()
            totals.append((now(arguments) - start) / len(rows))
        shares.append(sum(spent) / len(rows) / totals[-1])
    for hook in hooks:
        hook.remove()
    share = statistics.median(shares[1:])
    return f"{1 / statistics.median(totals[1:]):.2f} | {share:.0%} | {1 / share - 1:.2f}"


def parts(classifier: Classifier, images: torch.Tensor, arguments: argparse.Namespace) -> dict:
    """Seconds a picture of each part, in memory."""
    times: dict[str, list[float]] = defaultdict(list)
    files = [to_uint8(image) for image in images]
    images = images.to(arguments.device)
    for _ in range(arguments.rounds + 1):
        clock = [now(arguments)]
        with torch.inference_mode():
            classifier(images)
        clock.append(now(arguments))
        features = patch_features(classifier, images, best_features(classifier))
        if arguments.checkpoint is None:
            features = features - features.mean((1, 2), keepdim=True)
        clock.append(now(arguments))
        matrices = affinity(features.flatten(1, 2))
        clock.append(now(arguments))
        found = second_eigenvectors(matrices, "arpack")
        clock.append(now(arguments))
        second_eigenvectors(matrices, "lanczos")
        clock.append(now(arguments))
        grid = (features.shape[1], features.shape[2])
        cuts = [partition(vector, grid) for vector in found.cpu().numpy()]
        for loaded, cut in zip(files, cuts):
            refine(arguments.edges, loaded, cut.foreground)
        clock.append(now(arguments))
        dense(matrices[0].cpu().numpy())
        clock.append(now(arguments))
        names = ("backbone", "features", "affinity", "arpack", "lanczos", "edges", "dense")
        for name, start, end in zip(names, clock, clock[1:]):
            times[name].append((end - start) / (1 if name == "dense" else len(images)))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", default="vit_small_patch14_dinov2.lvd142m")
    parser.add_argument("--checkpoint")
    parser.add_argument("--patch", type=int, help="resample the patch embedding to this size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 480])
    parser.add_argument("--edges", default="bilateral")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    first, second = [], []
    for size in arguments.sizes:
        options = {} if arguments.patch is None else {"patch_size": arguments.patch}
        classifier = load_model(
            arguments.model,
            checkpoint=arguments.checkpoint,
            pretrained=False,
            image_size=size,
            device=arguments.device,
            **options,
        )
        if arguments.checkpoint is not None:
            first.append(f"| {size} | {whole(classifier, arguments.photos, arguments)} |")
        photos = [load_image(p)[None] for p in list_images(arguments.photos)[: arguments.batch]]
        images = torch.cat([F.interpolate(p, (size, size), mode="area") for p in photos])
        t = parts(classifier, images, arguments)
        rest = t["affinity"] + min(t["arpack"], t["lanczos"]) + t["edges"]
        columns = ("features", "affinity", "arpack", "lanczos", "edges", "dense")
        cells = " | ".join(f"{t[name] / t['backbone']:.3f}" for name in columns)
        second.append(
            f"| {size} | {1 / (t['features'] + rest):.2f} | {cells} | {rest / t['backbone']:.2f} |"
        )
    if first:
        print("| pixels | pictures/s | in the model | rest ÷ model |\n| --- | --- | --- | --- |")
        print("\n".join(first) + "\n")
    print("| pixels | pictures/s | features | affinity | arpack | lanczos | edges | dense | rest |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(second))


if __name__ == "__main__":
    main()
