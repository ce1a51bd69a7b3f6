"""The plot of score by depth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vitreous.brain.scoring import LayerScore
from vitreous.io import atomic_path

PLOT = "vitreous: score by depth"  # in the file, to know our own


def plot_depth(
    scores: Mapping[str, Sequence[LayerScore]],
    path: str | os.PathLike[str],
    metric: str = "score",
) -> Path:
    """Draw a line a region, with the standard error over splits, and write it as an image.

    Args:
        scores: Name of the line (region, or model) → its layers in order; pixels, which are no
            layer, become a dashed line across.
        path: PNG file; PLOT stands in it as the software that made it.
        metric: What the score is.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    inner = {name: [row for row in rows if row.depth is not None] for name, rows in scores.items()}
    for name, rows in inner.items():
        values, errors = [r.score.score for r in rows], [r.score.error for r in rows]
        depths = np.array([r.depth for r in rows], dtype=np.float64)
        line = axes.errorbar(depths, values, errors, marker="o", label=name)
        for row in scores[name]:
            if row.depth is None:
                color = line.lines[0].get_color()
                axes.axhline(row.score.score, color=color, linestyle="--", label=f"{name}: pixels")
    longest = max(inner.values(), key=len, default=[])
    if len(scores) == 1 and longest:
        axes.set_xticks([r.depth or 0.0 for r in longest], [r.layer for r in longest], rotation=60)
    else:
        axes.set_xlabel("depth")
    axes.set_ylabel(metric)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Software": PLOT})
    return Path(path)
