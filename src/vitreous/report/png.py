"""Figures as PNG files, for slides and for model cards."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter
from PIL import Image

from vitreous.data.images import open_image
from vitreous.errors import ImageError
from vitreous.io import atomic_path
from vitreous.report import figures, tables
from vitreous.report.charts import Chart, Figure, Heatmap, Series
from vitreous.report.images import ROLES
from vitreous.report.sources import Sample, Source
from vitreous.report.svg import RAMP

COLOURS = (
    *("#66727a", "#0d7f76", "#5b4bd6", "#b8610a", "#c0265a", "#1d6fb8"),
    *("#9aa7ad", "#8c6d3f", "#6e8f3a", "#3b8ea5", "#a06a9c"),
)
COLOUR_MAP = LinearSegmentedColormap.from_list(
    "vitreous", [tuple(v / 255 for v in c) for c in RAMP]
)
SIDE, GAP = 168, 6


def write_figures(
    sources: Sequence[Source], folder: str | os.PathLike[str]
) -> list[tuple[str, Path]]:
    """Write every figure of a card as a PNG, and the relevance pairs as one picture a model.

    Returns:
        Text alternative and path of each.
    """
    root = Path(folder)
    drawn = [*figures.measured(sources), *figures.matrices(sources), *figures.training(sources)]
    written = [(one.alt, draw(one, root / f"{one.key}.png")) for one in drawn]
    for place, source in enumerate(sources):
        best, worst = tables.extremes(source.samples)
        for name, samples in (("best", best), ("worst", worst)):
            if samples:
                alt = f"{source.name}: relevance before and after, {name} changes"
                path = root / f"relevance_{place}_{name}.png"
                written.append((alt, montage(samples, path)))
    return written


def draw(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Draw one figure into a PNG of 1400 pixels width."""
    canvas = Canvas(figsize=(7, 4.4), dpi=200, layout="constrained")
    axes = canvas.add_subplot()
    axes.set_title(figure.title, fontsize=11, fontweight="bold", loc="left")
    if isinstance(figure, Heatmap):
        _heatmap(figure, axes, canvas)
    else:
        _chart(figure, axes)
    with atomic_path(path) as temporary:
        canvas.savefig(temporary, format="png")
    return Path(path)


def _chart(chart: Chart, axes: Axes) -> None:
    for place, series in enumerate(chart.series):
        if chart.kind == "bars":
            width = 0.76 / len(chart.series)
            x = [v - 0.38 + (place + 0.5) * width for v in series.x]
            axes.bar(x, series.y, width * 0.94, color=COLOURS[series.color], label=series.name)
            _errors(axes, x, series, "black")
        else:
            _line(chart, series, axes)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    if chart.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if chart.percent_x:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if chart.categories:
        tilted = sum(map(len, chart.categories)) > 60
        axes.set_xticks(
            range(len(chart.categories)),
            chart.categories,
            rotation=35 if tilted else 0,
            ha="right" if tilted else "center",
        )
    if chart.places:
        drawn = [x for series in chart.series for x in series.x]
        axes.set_xticks([v for v in chart.places if min(drawn) <= v <= max(drawn)])
    if chart.rule is not None:
        axes.axhline(chart.rule, color="#777", linewidth=0.8, linestyle="--")
    if chart.diagonal:
        limits = (axes.get_xlim(), axes.get_ylim())
        axes.axline((0, 0), slope=1, color="#777", linewidth=0.8, linestyle="--")
        axes.set_xlim(limits[0])
        axes.set_ylim(limits[1])
    axes.grid(axis="y", color="#e3e8e8")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if len(chart.series) > 1:
        axes.legend(framealpha=0.85, edgecolor="none", fontsize=8)


def _line(chart: Chart, series: Series, axes: Axes) -> None:
    color = COLOURS[series.color]
    if chart.kind == "points" and not series.line:
        axes.plot(series.x, series.y, "o", color=color, label=series.name)
        _errors(axes, series.x, series, color)
        return
    marker = "o" if len(series.x) <= 24 else ""
    style = "--" if series.dashed else "-"
    axes.plot(series.x, series.y, style, marker=marker, ms=3.5, color=color, label=series.name)
    if series.low and series.high:
        axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.14, lw=0)


def _errors(axes: Axes, x: Sequence[float], series: Series, color: str) -> None:
    for place, y, index in zip(x, series.y, range(len(series.y))):
        interval = series.interval(index)
        if interval is not None and math.isfinite(y):
            axes.plot([place, place], interval, color=color, linewidth=1)


def _heatmap(heatmap: Heatmap, axes: Axes, canvas: Canvas) -> None:
    low, high = (0, 1) if heatmap.percent else (None, None)
    aspect = "auto" if heatmap.cells else "equal"
    image = axes.imshow(heatmap.values, cmap=COLOUR_MAP, aspect=aspect, vmin=low, vmax=high)
    canvas.colorbar(image, ax=axes, format=PercentFormatter(1.0) if heatmap.percent else None)
    if heatmap.cells:
        axes.set_xticks(range(len(heatmap.columns)), heatmap.columns)
        axes.set_yticks(range(len(heatmap.rows)), heatmap.rows, fontsize=8)
    else:
        axes.set_axis_off()


def montage(samples: Sequence[Sample], path: str | os.PathLike[str]) -> Path:
    """Put samples under each other, each a row of its pictures."""
    width = len(ROLES) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, len(samples) * (SIDE + GAP) - GAP), "white")
    for row, sample in enumerate(samples):
        for column, role in enumerate(ROLES):
            try:
                image = open_image(sample.files[role])
            except (ImageError, KeyError):
                continue
            small = max(image.size) <= SIDE
            how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
            place = (column * (SIDE + GAP), row * (SIDE + GAP))
            sheet.paste(image.resize((SIDE, SIDE), how), place)
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    return Path(path)
