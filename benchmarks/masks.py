"""Throughput of TokenCut: pictures a second, and the share of the time spent in the backbone.

    python benchmarks/masks.py --checkpoint dinov2_vits14_saliency_fp16.safetensors

The floor is the backbone's forward pass on the same batch; the named alternative for the cut is
LAPACK's dense generalised eigensolver, as published. Each round times all parts one after the
other; medians over the rounds are printed, with ratios. Without `--checkpoint`: random weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict

import numpy as np
import scipy.linalg
import torch

from vitreous.data.images import to_uint8
from vitreous.masks.edges import refine
from vitreous.masks.tokencut import affinity, partition, patch_features, second_eigenvector
from vitreous.models import load_model


def scenes(batch: int, size: int) -> torch.Tensor:
    """Noisy discs on noisy grounds."""
    random = torch.Generator().manual_seed(0)
    axis = torch.linspace(-1, 1, size)
    disc = (axis[:, None] ** 2 + axis[None] ** 2 < 0.25).float()
    colours = torch.rand(2, batch, 3, 1, 1, generator=random)
    images = colours[0] * disc + colours[1] * (1 - disc)
    return (images + 0.1 * torch.randn(batch, 3, size, size, generator=random)).clamp(0, 1)


def dense(matrix: np.ndarray) -> np.ndarray:
    degree = np.diag(matrix.sum(1))
    return scipy.linalg.eigh(degree - matrix, degree, subset_by_index=[1, 1])[1][:, 0]


def measure(classifier, images: torch.Tensor, edges: str, rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = defaultdict(list)
    pictures = [to_uint8(image) for image in images]
    for _ in range(rounds + 1):
        clock = [time.perf_counter()]
        with torch.inference_mode():
            classifier(images)
        clock.append(time.perf_counter())
        features = patch_features(classifier, images, "token")
        clock.append(time.perf_counter())
        matrices = affinity(features.flatten(1, 2)).numpy()
        grid = (features.shape[1], features.shape[2])
        clock.append(time.perf_counter())
        vectors = [second_eigenvector(matrix) for matrix in matrices]
        clock.append(time.perf_counter())
        cuts = [partition(vector, grid) for vector in vectors]
        for picture, cut in zip(pictures, cuts):
            refine(edges, picture, cut.foreground)
        clock.append(time.perf_counter())
        dense(matrices[0])
        clock.append(time.perf_counter())
        names = ("backbone", "features", "affinity", "eigenvector", "edges", "dense")
        for name, start, end in zip(names, clock, clock[1:]):
            times[name].append((end - start) / (1 if name == "dense" else len(images)))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint")
    parser.add_argument("--edges", default="bilateral")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| pixels | pictures/s | backbone's share | rest ÷ backbone | dense ÷ Lanczos |")
    print("| --- | --- | --- | --- | --- |")
    for size in (224, 476):
        classifier = load_model(
            "vit_small_patch14_dinov2.lvd142m",
            checkpoint=arguments.checkpoint,
            pretrained=False,
            image_size=size,
        )
        t = measure(classifier, scenes(arguments.batch, size), arguments.edges, arguments.rounds)
        rest = t["affinity"] + t["eigenvector"] + t["edges"]
        total = t["features"] + rest
        print(
            f"| {size} | {1 / total:.2f} | {t['features'] / total:.0%} | "
            f"{rest / t['backbone']:.2f} | {t['dense'] / t['eigenvector']:.1f} |"
        )
        parts = ", ".join(f"{k} {v / t['backbone']:.3f}" for k, v in t.items())
        print(f"<!-- in units of the backbone: {parts} -->")


if __name__ == "__main__":
    main()
