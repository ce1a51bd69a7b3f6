"""The plot of score by depth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from vitreous.brain.scoring import LayerScore
from vitreous.io import atomic_path


def plot_depth(scores: Mapping[str, Sequence[LayerScore]], path: str | os.PathLike[str]) -> Path:
    """Draw a line a region, with the standard error over splits, and write it as an image.

    Args:
        scores: Name of the line (region, or model) → its layers in order.
        path: Image file; its suffix is the format.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, rows in scores.items():
        errors = [row.score.error for row in rows]
        depths = [row.depth for row in rows]
        axes.errorbar(depths, [row.score.score for row in rows], errors, marker="o", label=name)
    longest = max(scores.values(), key=len, default=[])
    if len(scores) == 1 and longest:
        axes.set_xticks([r.depth for r in longest], [r.layer for r in longest], rotation=60)
    else:
        axes.set_xlabel("depth")
    axes.set_ylabel("score")
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return Path(path)
