"""Parallel coordinates: an axis a setting and one for the figure, a line a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from vitreous.io import atomic_path
from vitreous.training.sweep_axes import Axis

Trials = Sequence[tuple[Mapping[str, object], float]]


def coordinates(axes: Sequence[Axis], trials: Trials) -> np.ndarray:
    """(trials, axes + 1) heights in [0, 1]: each setting within its range, then the figure."""
    figures = np.array([figure for _, figure in trials], dtype=np.float64)
    span = np.ptp(figures) if len(figures) else 0.0
    scaled = (figures - figures.min()) / span if span > 0 else np.zeros_like(figures)
    places = [[axis.place(values[axis.key]) for axis in axes] for values, _ in trials]
    return np.column_stack([np.array(places).reshape(len(trials), len(axes)), scaled])


def draw_parallel_coordinates(
    axes: Sequence[Axis], trials: Trials, metric: str, path: Path
) -> Path:
    """Draw the trials and write the image.

    Args:
        axes: What was searched.
        trials: Settings and figure of each that ran to its end.
        metric: What the figure is called.
        path: Image file; its suffix is the format.
    """
    # Of a fixed layout: a long name of a choice would leave the axes no room in another.
    figure = Figure(figsize=(2.2 * (len(axes) + 1), 4))
    plot = figure.add_subplot()
    for heights in coordinates(axes, trials):
        plot.plot(heights, color=colormaps["viridis"](heights[-1]), alpha=0.8)
    values = [value for _, value in trials]
    ends = [axis.values for axis in axes]
    ends.append((f"{min(values):.4g}", f"{max(values):.4g}") if values else ("", ""))
    for place, labels in enumerate(ends):
        plot.axvline(place, color="black", linewidth=0.8)
        for number, label in enumerate(labels):
            height = number / max(len(labels) - 1, 1)
            plot.text(place, height, f" {label}", fontsize="small", va="bottom")
    plot.set_xticks(range(len(ends)), [*(axis.key for axis in axes), metric])
    plot.tick_params(axis="x", labelsize="small")
    plot.set_yticks([])
    plot.set_frame_on(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path
