"""The robustness curve: accuracy over ε."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitreous.io import atomic_path


def draw_curve(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    path: str | os.PathLike[str],
    norm: str = "linf",
) -> Path:
    """Draw accuracy over ε, a line for each attack; all are of one norm.

    Args:
        curves: Name → points (ε in units of images, accuracy in [0, 1]).
        path: PNG to write.
        norm: Of the radii: those of L∞ are drawn in 255ths.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    scale, unit = (255, "ε (in 1/255, L∞)") if norm == "linf" else (1, "ε (L2)")
    for name, points in curves.items():
        axes.plot([scale * e for e, _ in points], [100 * a for _, a in points], "o-", label=name)
    axes.set(xlabel=unit, ylabel="accuracy under attack (%)", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return Path(path)
