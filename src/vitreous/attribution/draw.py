"""Relevance maps laid over pictures, for people to look at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vitreous.data.images import to_uint8
from vitreous.errors import printable
from vitreous.io import atomic_path

PALE, SATURATION = 0.18, 0.65


def overlay(image: Tensor, relevance: Tensor, strength: float = 0.7) -> Tensor:
    """Lay a map over an image: warm where it is relevant, the image itself, paler, elsewhere.

    Args:
        image: (3, H, W) in [0, 1].
        relevance: (1, H, W) in [0, 1].
        strength: Share of the warm colour where relevance is 1.

    Returns:
        (3, H, W) in [0, 1].
    """
    levels = relevance[0].detach().float().cpu().clamp(0, 1)
    # The upper part of the map only: its dark end would hide what the model did not look at.
    colors = torch.from_numpy(matplotlib.colormaps["inferno"](0.45 + 0.5 * levels.numpy())[..., :3])
    color = colors.float().permute(2, 0, 1)
    shown = image.detach().float().cpu()
    paler = PALE + (1 - PALE) * (SATURATION * shown + (1 - SATURATION) * shown.mean(0))
    share = strength * levels
    return (paler * (1 - share) + color * share).clamp(0, 1)


def panel(
    rows: Sequence[Sequence[tuple[str, Tensor]]], path: str | os.PathLike[str], title: str = ""
) -> Path:
    """Draw captioned pictures (3, H, W) in rows and columns into one PNG."""
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
