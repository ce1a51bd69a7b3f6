"""The robustness curve: accuracy over ε."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitreous.io import atomic_path


def draw_curve(
    curves: Mapping[str, Sequence[tuple[float, float]]], path: str | os.PathLike[str]
) -> Path:
    """Draw accuracy over ε, a line for each attack.

    Args:
        curves: Name → points (ε in units of pictures, accuracy in [0, 1]).
        path: PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in curves.items():
        axes.plot([255 * e for e, _ in points], [100 * a for _, a in points], "o-", label=name)
    axes.set(xlabel="ε · 255", ylabel="accuracy under attack (%)", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return Path(path)
