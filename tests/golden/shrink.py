"""Shrink golden files of the published implementations to what tests compare.

    PYTHONPATH=tests python -m golden.shrink FOLDER

FOLDER holds `relevance_training.npz` and `fast_adversarial_training.npz` as the published code
wrote them (10 MB). Weights, images, labels and single numbers are kept as they are; a map, a
saliency, a gradient or a trained weight becomes `sample/NAME` and `projection/NAME` (see
projection.py). The first perturbation of the adversarial training is torch's uniform noise of
seed 18: the seed is kept beside its sample, and this script refuses noise that differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from golden.projection import FOLDER, project, sample

NOISE_SEED = 18
LARGE = ("relevance", "saliency", "/grad/", "after", "robust_steps/blocks")
LIMIT = 2_000_000  # bytes


def first_noise() -> np.ndarray:
    """The perturbation that the published training started from (3,3,224,224), within 2/255."""
    generator = torch.Generator().manual_seed(NOISE_SEED)
    noise = torch.empty(3, 3, 224, 224).uniform_(-2 / 255, 2 / 255, generator=generator)
    return noise.numpy()


def shrink(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same numbers, the large ones sampled and projected."""
    kept: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if name == "noise0":
            assert np.array_equal(array, first_noise()), "noise0 is not that of its seed"
            kept["sample/noise0"] = sample(array)
        elif any(part in name for part in LARGE):
            kept[f"sample/{name}"] = sample(array)
            kept[f"projection/{name}"] = project(name, array)
        else:
            kept[name] = array
    return kept


def main(source: Path) -> None:
    """Write the shrunk files beside this script."""
    for name in ("relevance_training", "fast_adversarial_training"):
        with np.load(source / f"{name}.npz") as file:
            arrays = shrink(dict(file))
        target = FOLDER / f"{name}.npz"
        np.savez_compressed(target, allow_pickle=False, **arrays)
        size = target.stat().st_size
        print(f"{target.name}: {size / 1e6:.2f} MB")
        assert size <= LIMIT, f"{target.name} is larger than {LIMIT} bytes"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
