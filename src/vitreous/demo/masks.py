"""Masks that the demo finds by itself, beside the exact ones: TokenCut on its own small model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vitreous.data.dataset import Dataset
from vitreous.data.images import save_image
from vitreous.io import read_json, write_json
from vitreous.models import Classifier
from vitreous.results import Record


def find_demo_masks(classifier: Classifier, items: Dataset, folder: Path) -> Record:
    """Write a mask for each image and compare them with the exact ones.

    Args:
        classifier: The model whose keys are cut.
        items: Drawn images with exact masks.
        folder: Gets `CLASS/00000.png` for each; found there, they are not made again.

    Returns:
        Mean intersection over union with the exact masks.
    """
    # Only this part of the demo needs the masks' packages.
    from vitreous.masks import tokencut_masks

    listing = folder / "quality.json"
    if not listing.is_file():
        rows = [items[index] for index in range(len(items))]
        pixels = torch.stack([torch.from_numpy(np.array(row.image)) for row in rows])
        images = pixels.permute(0, 3, 1, 2).float() / 255
        masks = torch.stack([row.mask for row in rows if row.mask is not None])
        found = tokencut_masks(classifier, images, edges="none")
        for index, mask in enumerate(found):
            save_image(mask, folder / items.name(index))
        overlap = (found * masks).sum((1, 2, 3))
        union = torch.maximum(found, masks).sum((1, 2, 3))
        write_json(listing, {"iou": (overlap / union).tolist()})
    values = torch.tensor(read_json(listing)["iou"])
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
    settings = {"method": "tokencut"}
    interval = (mean - half, mean + half)
    return Record("masks", "guidance pictures", "mean_iou", mean, len(values), interval, settings)
