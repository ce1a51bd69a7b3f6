"""Relevance maps laid over images, for people to look at, and as files for other programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vitreous.data.images import save_image, to_uint8
from vitreous.errors import VitreousError, nearest, printable
from vitreous.io import atomic_path

PALE, SATURATION = 0.18, 0.65


COLOR_MAP, STRENGTH = "inferno", 0.7


def check_color_map(name: str) -> None:
    """Refuse what is no colour map of matplotlib's; raises VitreousError."""
    if name not in matplotlib.colormaps:
        raise VitreousError(f"unknown colour map '{name}'; {nearest(name, matplotlib.colormaps)}")


def overlay(
    image: Tensor, relevance: Tensor, strength: float = STRENGTH, color_map: str = COLOR_MAP
) -> Tensor:
    """Lay a map over an image: warm where it is relevant, the image itself, paler, elsewhere.

    Args:
        image: (3, H, W) in [0, 1].
        relevance: (1, H, W) in [0, 1].
        strength: Share of the warm colour where relevance is 1.
        color_map: One of matplotlib's.

    Returns:
        (3, H, W) in [0, 1].
    """
    levels = relevance[0].detach().float().cpu().clamp(0, 1)
    # The upper part of the map only: its dark end would hide what the model did not look at.
    colors = matplotlib.colormaps[color_map](0.45 + 0.5 * levels.numpy())[..., :3]
    color = torch.from_numpy(colors).float().permute(2, 0, 1)
    shown = image.detach().float().cpu()
    paler = PALE + (1 - PALE) * (SATURATION * shown + (1 - SATURATION) * shown.mean(0))
    share = strength * levels
    return (paler * (1 - share) + color * share).clamp(0, 1)


def panel(
    rows: Sequence[Sequence[tuple[str, Tensor]]], path: str | os.PathLike[str], title: str = ""
) -> Path:
    """Draw captioned images (3, H, W) in rows and columns into one PNG."""
    columns = max(len(row) for row in rows)
    height = 2.55 * len(rows) + (0.45 if title else 0.1)
    figure = Figure(figsize=(2.35 * columns, height), dpi=130, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    if title:
        plain = printable(title)
        figure.suptitle(plain, fontsize=11, fontweight="bold", parse_math=False)
    for row, line in zip(axes, rows):
        for axis in row:
            axis.axis("off")
        for axis, (caption, image) in zip(row, line):
            axis.imshow(to_uint8(image))
            axis.set_title(printable(caption), fontsize=8, parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


def save_gray(relevance: np.ndarray, path: str | os.PathLike[str]) -> Path:
    """Write a map (H, W) in [0, 1] as an 8-bit gray PNG."""
    return save_image(np.rint(relevance * 255).astype(np.uint8), path)


def save_tiff(relevance: np.ndarray, path: str | os.PathLike[str]) -> Path:
    """Write a map (H, W) as a TIFF of one float32 channel, its values as they are."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(relevance, np.float32)).save(temporary, "TIFF")
    return Path(path)
