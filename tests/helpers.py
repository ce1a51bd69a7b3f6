"""Small data sets and recipes that tests make on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TINY_MODEL: dict[str, Any] = {
    "name": "vit_tiny_patch16_224",
    "pretrained": False,
    "image_size": 32,
    "options": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3},
}
TINY_CROSSVIT: dict[str, Any] = {
    "img_scale": (1.0, 1.0),
    "patch_size": (8, 16),
    "embed_dim": (12, 24),
    "depth": ((1, 1, 0),),
    "num_heads": (3, 3),
}


def write_masked_set(root: Path, classes: int = 3, per_class: int = 5, size: int = 40) -> None:
    """Write `images/CLASS/*.png` with a coloured square each, and `masks/CLASS/*.png`."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        for index in range(per_class):
            picture = generator.integers(0, 80, (size, size, 3), dtype=np.uint8)
            mask = np.zeros((size, size), dtype=np.uint8)
            top, left = generator.integers(4, size // 2 - 2, 2)
            picture[top : top + 16, left : left + 16, label % 3] = 230
            mask[top : top + 16, left : left + 16] = 255
            for folder, array in (("images", picture), ("masks", mask)):
                path = root / folder / f"class_{label}" / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)


def tiny_recipe(root: Path, **overrides: Any) -> dict[str, Any]:
    """A RobustViT recipe on that set: three epochs of a tiny ViT."""
    values: dict[str, Any] = {
        "model": TINY_MODEL,
        "data": {
            "name": "folders",
            "images": str(root / "images"),
            "masks": str(root / "masks"),
            "validation_share": 0.2,
        },
        "views": {
            "train": {"random_crop": {"size": 32}, "flip": {}},
            "validation": {"center_crop": {"size": 32}},
        },
        "objectives": {"classification": {"weight": 0.2}, "relevance": {"weight": 0.8}},
        "optimizer": {"lr": 1e-3, "weight_decay": 1e-4},
        "schedule": {"name": "step"},
        "training": {"epochs": 3, "batch_size": 4, "trackers": [], "samples": 2},
    }
    return {**values, **overrides}


def write_squares(root: Path, count: int) -> Path:
    """Pictures with a bright square in two classes (`images/c0`, `c1`), and their `masks/`."""
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(0, 90, (32, 32, 3)).astype(np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[4 + i : 16 + i, 8:20] = 255
        pixels[mask > 0] += 120
        for kind, array in (("images", pixels), ("masks", mask)):
            file = root / kind / f"c{i % 2}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file)
    return root
