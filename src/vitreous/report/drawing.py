"""Every figure drawn once, by matplotlib: the page, its print and the PNG files show the same."""

from __future__ import annotations

import contextlib
import itertools
import math
import textwrap
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

from vitreous.report.charts import PUBLISHED_COLOUR, Chart, Figure, Heatmap, Series, number

INK, MUTED, EDGE, PANEL = "#14201f", "#5b6a69", "#dfe6e5", "#ffffff"
MODELS = ("#66727a", "#0d7f76", "#5b4bd6", "#b8610a", "#c0265a", "#1d6fb8")
PUBLISHED = ("#9a7d22", "#8c6d3f", "#6e8f3a", "#3b8ea5", "#a06a9c")
COLORS = (*MODELS, *PUBLISHED)
MARKERS = ("o", "s", "^", "D", "v", "P")
RAMP = ("#441e54", "#404387", "#29788e", "#22a784", "#79d151", "#fde724")
COLOR_MAP = LinearSegmentedColormap.from_list("vitreous", RAMP)
WIDTH, HEIGHT = 4.8, 3.1
ROW = 0.17  # height of one dot, in inches
WRAP = 26
NAMES_IN_A_ROW = 44  # characters below a table of colours
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": PANEL,
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "vitreous",
}


@contextlib.contextmanager
def drawn(figure: Figure, *, title: bool) -> Generator[Canvas]:
    """Draw a figure and yield its canvas, which is to be saved inside the block.

    Args:
        figure: What is shown.
        title: Write the title into it; a page has it above.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in letters that the font does not have shows boxes, which says enough.
        warnings.filterwarnings("ignore", r"Glyph \d+")
        canvas = Canvas(figsize=(WIDTH, _height(figure)), layout="constrained")
        axes = canvas.add_subplot()
        if title:
            words = textwrap.fill(figure.title, 58)
            canvas.suptitle(words, x=0.02, ha="left", fontsize=10, fontweight="bold")
        if isinstance(figure, Heatmap):
            _heatmap(figure, axes, canvas)
        else:
            _chart(figure, axes, canvas)
        yield canvas


def _height(figure: Figure) -> float:
    if isinstance(figure, Heatmap):
        upright = 0.07 * max(map(len, figure.columns), default=0) if _crowded(figure) else 0
        return 0.7 + 0.26 * len(figure.rows) + upright if figure.cells else HEIGHT
    legend = ROW * max(0, math.ceil(len(_keys(figure)) / _legend_columns(figure)) - 1)
    if figure.kind != "dots":
        return HEIGHT + legend
    return 0.95 + legend + ROW * max(3.0, _rows_of(figure)[-1])


def _crowded(heatmap: Heatmap) -> bool:
    """Whether the names of columns are too long to stand side by side."""
    longest = max(map(len, heatmap.columns), default=0)
    return heatmap.cells and len(heatmap.columns) * (longest + 1) > NAMES_IN_A_ROW


def _rows_of(chart: Chart) -> list[float]:
    """Upper ends of the rows of dots, and the lower end of the last: as high as they need."""
    ends = [0.0]
    for place, name in enumerate(chart.categories):
        dots = len(_in_row(chart, place))
        lines = len(textwrap.wrap(name, WRAP))
        ends.append(ends[-1] + max(0.9 * dots + 0.5, lines + 0.3, 1.5))
    return ends


def _in_row(chart: Chart, place: int) -> list[tuple[Series, int]]:
    """The series that have a value in a row, and where it is among theirs."""
    return [
        (series, index)
        for series in chart.series
        for index, x in enumerate(series.x)
        if x == place and math.isfinite(series.y[index])
    ]


def _chart(chart: Chart, axes: Axes, canvas: Canvas) -> None:
    if chart.kind == "dots":
        _dots(chart, axes)
    else:
        _axes_of_values(chart, axes)
    axes.set_title(chart.y_label, loc="left", fontsize=9, color=MUTED)
    axes.set_xlabel(chart.x_label)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    _legend(chart, canvas)


def _legend(chart: Chart, canvas: Canvas) -> None:
    """Name the series below the axes, where there is more than one."""
    names = _keys(chart)
    if len(names) < 2:
        return
    canvas.legend(
        list(names.values()),
        list(names),
        loc="outside lower left",
        ncols=_legend_columns(chart),
        frameon=False,
        fontsize=8.5,
        handlelength=1.6,
        columnspacing=1.2,
        labelspacing=0.3,
    )


def _keys(chart: Chart) -> dict[str, Line2D]:
    """What the legend shows: name → mark, each once."""
    names: dict[str, Line2D] = {}
    for series in chart.series:
        names.setdefault(series.group or series.name, _key(chart, series))
    return names


def _legend_columns(chart: Chart) -> int:
    names = _keys(chart)
    longest = max(map(len, names), default=0)
    return max(1, min(len(names), 66 // (longest + 4)))


def _key(chart: Chart, series: Series) -> Line2D:
    lined = chart.kind == "line" or series.line
    dashed = _is_published(series) or (series.dashed and not series.group)
    return Line2D([], [], linestyle=("--" if dashed else "-") if lined else "", **_look(series))


def _is_published(series: Series) -> bool:
    return series.color >= PUBLISHED_COLOUR


def _look(series: Series) -> dict[str, Any]:
    """Colour and mark of a series: a model's is filled, a published value's hollow."""
    color = COLORS[series.color]
    marker = "D" if _is_published(series) else MARKERS[series.color]
    if series.line:
        return {"color": color, "marker": "", "linewidth": 1.2}
    return {
        "color": color,
        "marker": marker,
        "markersize": 4.5,
        "markerfacecolor": PANEL if _is_published(series) else color,
        "markeredgecolor": color,
        "linewidth": 1.4,
    }


def _axes_of_values(chart: Chart, axes: Axes) -> None:
    for series in chart.series:
        _line(chart, series, axes)
    _percent(axes.yaxis, chart.percent, [v for s in chart.series for v in s.y])
    _percent(axes.xaxis, chart.percent_x, [v for s in chart.series for v in s.x])
    if chart.places:
        across = [x for series in chart.series for x in series.x]
        axes.set_xticks([v for v in chart.places if min(across) <= v <= max(across)])
    elif all(float(x).is_integer() for s in chart.series for x in s.x):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if chart.rule is not None:
        axes.axhline(chart.rule, color=MUTED, linewidth=0.8, linestyle="--")
    if chart.diagonal:
        limits = (axes.get_xlim(), axes.get_ylim())
        axes.axline((0, 0), slope=1, color=MUTED, linewidth=0.8, linestyle="--")
        axes.set(xlim=limits[0], ylim=limits[1])
    axes.grid(axis="y", color=EDGE, linewidth=0.7)


def _percent(axis: Axis, fractions: bool, values: Sequence[float]) -> None:
    if fractions:
        axis.set_major_formatter(_percent_text)
    elif known := [abs(v) for v in values if math.isfinite(v) and v]:
        plain = 1e-3 <= max(known) < 1e6
        formatter = ScalarFormatter(useOffset=False)
        formatter.set_scientific(not plain)
        axis.set_major_formatter(formatter)


def _percent_text(value: float, _: object = None) -> str:
    return f"{round(100 * value, 6):g} %".replace("-", "−")


def _line(chart: Chart, series: Series, axes: Axes) -> None:
    color, look = COLORS[series.color], _look(series)
    if chart.kind == "points" and not series.line:
        many = len(series.x) > 24
        look |= {"markersize": 3 if many else 6, "alpha": 0.8 if many else 1, "linestyle": ""}
        axes.plot(series.x, series.y, **look)
        _errors(axes, series, range(len(series.x)))
        return
    look["marker"] = look["marker"] if len(series.x) <= 24 and not series.dashed else ""
    style = "--" if series.dashed or _is_published(series) else "-"
    axes.plot(series.x, series.y, linestyle=style, **look)
    if series.low and series.high:
        axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.14, linewidth=0)
        _errors(axes, series, [i for i in range(len(series.x)) if _alone(series, i)])


def _alone(series: Series, index: int) -> bool:
    """Whether no neighbour of a point has an interval, so that there is no band around it."""
    beside = (i for i in (index - 1, index + 1) if 0 <= i < len(series.x))
    return all(series.interval(i) is None for i in beside)


def _errors(axes: Axes, series: Series, places: Iterable[int]) -> None:
    for index in places:
        x = series.x[index]
        if (interval := series.interval(index)) is not None:
            axes.plot([x, x], interval, color=COLORS[series.color], linewidth=1)


def _dots(chart: Chart, axes: Axes) -> None:
    """Rows of dots from the top down, those of several series beneath each other in a row."""
    ends = _rows_of(chart)
    for place in range(len(chart.categories)):
        dots = _in_row(chart, place)
        step = (ends[place + 1] - ends[place]) / (len(dots) + 1)
        for order, (series, index) in enumerate(dots, 1):
            look, y = _look(series), ends[place] + order * step
            if (interval := series.interval(index)) is not None:
                axes.plot(interval, [y, y], color=look["color"], linewidth=1.3)
            axes.plot(series.y[index], y, **look)
        if place:
            axes.axhline(ends[place], color=EDGE, linewidth=0.7)
    names = [textwrap.fill(name, WRAP) for name in chart.categories]
    axes.set_yticks([(a + b) / 2 for a, b in itertools.pairwise(ends)], names, color=INK)
    axes.set_ylim(ends[-1], 0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    _percent(axes.xaxis, chart.percent, [v for s in chart.series for v in s.y])
    axes.margins(x=0.06)
    if chart.rule is not None:
        axes.axvline(chart.rule, color=MUTED, linewidth=0.8, linestyle="--")
    axes.grid(axis="x", color=EDGE, linewidth=0.7)


def _heatmap(heatmap: Heatmap, axes: Axes, canvas: Canvas) -> None:
    values = np.array(heatmap.values, dtype=np.float64)
    if not values.size:
        raise ValueError("a table without cells")
    low, high = (0, 1) if heatmap.percent else (None, None)
    aspect = "auto" if heatmap.cells else "equal"
    image = axes.imshow(
        values, cmap=COLOR_MAP, aspect=aspect, vmin=low, vmax=high, interpolation="nearest"
    )
    form = FuncFormatter(_percent_text) if heatmap.percent else None
    bar = canvas.colorbar(image, ax=axes, format=form, shrink=0.9, pad=0.02)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)  # 256 rectangles otherwise
    bar.outline.set_visible(False)
    bar.ax.set_title(heatmap.label, fontsize=8, color=MUTED, loc="left", pad=9)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if not heatmap.cells:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    turned = 90 if _crowded(heatmap) else 0
    axes.set_xticks(range(len(heatmap.columns)), heatmap.columns, rotation=turned)
    axes.set_yticks(range(len(heatmap.rows)), heatmap.rows)
    _write_cells(heatmap, values, axes, image)


def _write_cells(heatmap: Heatmap, values: np.ndarray, axes: Axes, image: AxesImage) -> None:
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            text = f"{100 * value:.0f}" if heatmap.percent else number(float(value))
            dark = float(np.asarray(image.norm(value))) < 0.55
            tone = "#fefefe" if dark else "#101010"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=tone)


def css_variables() -> Mapping[str, str]:
    """Colours of the drawing and the variables of the page that they stand for."""
    names = {INK: "--ink", MUTED: "--muted", EDGE: "--edge", PANEL: "--panel"}
    names |= {to_hex(color): f"--m{i}" for i, color in enumerate(MODELS)}
    return names | {to_hex(color): f"--p{i}" for i, color in enumerate(PUBLISHED)}
