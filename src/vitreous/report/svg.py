"""Figures as inline SVG: colours are the page's variables, so they follow light and dark."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from vitreous.report.charts import (
    Chart,
    Figure,
    Heatmap,
    Series,
    limits,
    number,
    percent,
    tick_text,
    ticks,
)

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 46
LABEL = 20  # room above the axes for what they show


def draw(figure: Figure) -> str:
    """Draw a figure as an `<svg>` element with a text alternative."""
    if isinstance(figure, Chart):
        return _chart(figure)
    return _heatmap(figure) if figure.cells else _matrix(figure)


def _open(alt: str, height: float) -> str:
    return (
        f'<svg class="figure" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(alt, quote=True)}">'
    )


class _Axes:
    """Maps values to places in the picture."""

    def __init__(self, chart: Chart):
        self.top = TOP + (LABEL if chart.y_label else 0)
        self.low, self.high = limits(chart)
        xs = [x for s in chart.series for x in s.x if math.isfinite(x)]
        self.first, self.last = (min(xs), max(xs)) if xs else (0.0, 1.0)
        if chart.categories:
            self.first, self.last = -0.5, len(chart.categories) - 0.5
        elif chart.kind == "points":
            margin = 0.08 * (self.last - self.first) or 0.05
            self.first, self.last = self.first - margin, self.last + margin
        if self.first == self.last:
            self.first, self.last = self.first - 0.5, self.last + 0.5

    def x(self, value: float) -> float:
        share = (value - self.first) / (self.last - self.first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - self.top - BOTTOM)


def _chart(chart: Chart) -> str:
    axes = _Axes(chart)
    parts = [_open(chart.alt, HEIGHT), *_grid(chart, axes)]
    if chart.diagonal:
        start, end = max(axes.first, axes.low), min(axes.last, axes.high)
        if end > start:
            parts.append(_segment(axes.x(start), axes.y(start), axes.x(end), axes.y(end), "rule"))
    if chart.rule is not None:
        place = axes.y(chart.rule)
        parts.append(_segment(LEFT, place, WIDTH - RIGHT, place, "rule"))
    for place, series in enumerate(chart.series):
        if chart.kind == "bars":
            parts += _bars(chart, axes, series, place)
        else:
            parts += _line(chart, axes, series)
    return "".join([*parts, "</svg>"])


def _grid(chart: Chart, axes: _Axes) -> list[str]:
    parts = []
    places = ticks(axes.low, axes.high)
    write = tick_text(places, chart.percent)
    for value in places:
        y = axes.y(value)
        parts.append(_segment(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(_text(LEFT - 7, y + 4, write(value), "end"))
    if chart.categories:
        parts += _category_names(chart, axes)
    else:
        across = [v for v in chart.places if axes.first <= v <= axes.last]
        across = across or ticks(axes.first, axes.last, 6)
        write = tick_text(across, chart.percent_x)
        parts += [_text(axes.x(v), HEIGHT - BOTTOM + 17, write(v), "middle") for v in across]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, chart.x_label, "middle", "label"))
    return [*parts, _text(0, 14, chart.y_label, "start", "label")]


def _category_names(chart: Chart, axes: _Axes) -> list[str]:
    room = (WIDTH - LEFT - RIGHT) / max(1, len(chart.categories))
    longest = max((len(c) for c in chart.categories), default=0)
    parts = []
    for place, name in enumerate(chart.categories):
        x, y = axes.x(place), HEIGHT - BOTTOM + 16
        if longest * 6.5 <= room:
            parts.append(_text(x, y, name, "middle"))
        else:
            short = name if len(name) <= 11 else name[:10] + "…"
            parts.append(
                f'<text text-anchor="end" transform="translate({x + 4:.1f} {y - 4:.1f}) '
                f'rotate(-35)">{escape(short)}<title>{escape(name)}</title></text>'
            )
    return parts


def _line(chart: Chart, axes: _Axes, series: Series) -> list[str]:
    show = percent if chart.percent else number
    lined = chart.kind == "line" or series.line
    points = [
        (axes.x(x), axes.y(y), i)
        for i, (x, y) in enumerate(zip(series.x, series.y))
        if math.isfinite(x) and math.isfinite(y)
    ]
    parts = []
    if lined and len(points) > 1:
        band = [(axes.x(series.x[i]), series.interval(i)) for _, _, i in points]
        ends = [(x, ci) for x, ci in band if ci is not None]
        if len(ends) == len(points):
            outline = [(x, axes.y(ci[1])) for x, ci in ends]
            outline += [(x, axes.y(ci[0])) for x, ci in reversed(ends)]
            parts.append(f'<polygon class="band f{series.color}" points="{_join(outline)}"/>')
        dash = " dashed" if series.dashed else ""
        path = _join([(x, y) for x, y, _ in points])
        parts.append(f'<polyline class="line s{series.color}{dash}" points="{path}"/>')
    if not lined or len(points) <= 24:
        radius = 3.2 if lined or len(points) > 24 else 5
        for x, y, i in points:
            interval = series.interval(i)
            if not lined and interval is not None:
                parts.append(_whisker(x, axes, interval, series.color))
            label = f"{series.labels[i]}: " if series.labels else ""
            tip = f"{series.name} · {label}{show(series.y[i])}{_between(interval, show)}"
            parts.append(
                f'<circle class="f{series.color}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
                f"<title>{escape(tip)}</title></circle>"
            )
    return parts


def _bars(chart: Chart, axes: _Axes, series: Series, place: int) -> list[str]:
    show = percent if chart.percent else number
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(chart.categories))
    width = slot * 0.76 / len(chart.series)
    parts = []
    for i, (x, y) in enumerate(zip(series.x, series.y)):
        if not math.isfinite(y):
            continue
        left = axes.x(x) - slot * 0.38 + place * width
        top, bottom = sorted((axes.y(y), axes.y(max(axes.low, min(0.0, axes.high)))))
        interval = series.interval(i)
        tip = f"{series.name} · {chart.categories[int(x)]}: {show(y)}{_between(interval, show)}"
        parts.append(
            f'<rect class="f{series.color}" x="{left + 0.5:.1f}" y="{top:.1f}" rx="1.5" '
            f'width="{max(1.0, width - 1):.1f}" height="{max(0.8, bottom - top):.1f}">'
            f"<title>{escape(tip)}</title></rect>"
        )
        if interval is not None:
            parts.append(_whisker(left + width / 2, axes, interval, None))
    return parts


def _between(interval: tuple[float, float] | None, show) -> str:
    return "" if interval is None else f" ({show(interval[0])} to {show(interval[1])})"


def _whisker(x: float, axes: _Axes, interval: tuple[float, float], color: int | None) -> str:
    style = "whisker" if color is None else f"line s{color}"
    return _segment(x, axes.y(interval[0]), x, axes.y(interval[1]), style)


def _heatmap(heatmap: Heatmap) -> str:
    left = min(180, 12 + 7.8 * max((len(r) for r in heatmap.rows), default=0))
    cell_width = (WIDTH - left - 8) / max(1, len(heatmap.columns))
    cell_height = 22
    height = 8 + cell_height * len(heatmap.rows) + 24
    flat = [v for row in heatmap.values for v in row if math.isfinite(v)]
    low, high = (min(flat), max(flat)) if flat else (0.0, 1.0)
    if heatmap.percent and low >= 0:
        low, high = 0.0, 1.0
    show = percent if heatmap.percent else number
    parts = [_open(heatmap.alt, height)]
    for r, (name, row) in enumerate(zip(heatmap.rows, heatmap.values)):
        y = 8 + r * cell_height
        parts.append(_text(left - 6, y + cell_height / 2 + 4, name, "end"))
        for c, value in enumerate(row):
            if not math.isfinite(value):
                continue
            share = (value - low) / ((high - low) or 1)
            x = left + c * cell_width
            tip = f"{name}, {heatmap.columns[c]}: {show(value)}"
            parts.append(
                f'<rect class="cell" x="{x + 0.75:.1f}" y="{y + 0.75:.1f}" rx="2" '
                f'width="{cell_width - 1.5:.1f}" height="{cell_height - 1.5:.1f}" '
                f'style="fill:{ramp(share)}"><title>{escape(tip)}</title></rect>'
            )
            text = f"{100 * value:.0f}" if heatmap.percent else number(value)
            tone = "on-dark" if share < 0.55 else "on-light"
            middle = (x + cell_width / 2, y + cell_height / 2 + 4)
            parts.append(_text(*middle, text, "middle", tone))
    for c, name in enumerate(heatmap.columns):
        parts.append(_text(left + (c + 0.5) * cell_width, height - 6, name, "middle"))
    return "".join([*parts, "</svg>"])


def _matrix(heatmap: Heatmap) -> str:
    """Draw a large table as one picture, a pixel for each value."""
    values = np.array(heatmap.values, dtype=np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    shares = np.nan_to_num((values - low) / ((high - low) or 1))
    colors = [[ramp_rgb(share) for share in row] for row in shares.tolist()]
    buffer = io.BytesIO()
    Image.fromarray(np.array(colors, dtype=np.uint8)).save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    rows, columns = values.shape
    return (
        f'<svg class="figure" viewBox="0 0 {columns} {rows}" role="img" '
        f'aria-label="{escape(heatmap.alt, quote=True)}">'
        f'<image href="{uri}" width="{columns}" height="{rows}"/></svg>'
    )


RAMP = ((68, 30, 84), (64, 67, 135), (41, 120, 142), (34, 167, 132), (121, 209, 81), (253, 231, 36))


def ramp_rgb(share: float) -> tuple[int, int, int]:
    """Colour of a value between 0 and 1: dark violet over green to yellow, readable without hue."""
    place = min(max(share, 0.0), 1.0) * (len(RAMP) - 1)
    index = min(int(place), len(RAMP) - 2)
    (r0, g0, b0), (r1, g1, b1), mix = RAMP[index], RAMP[index + 1], place - index
    return round(r0 + mix * (r1 - r0)), round(g0 + mix * (g1 - g0)), round(b0 + mix * (b1 - b0))


def ramp(share: float) -> str:
    """Write the colour of a value between 0 and 1."""
    return "rgb({},{},{})".format(*ramp_rgb(share))


def _segment(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "tick") -> str:
    if not text:
        return ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{style}" {place}>{escape(text)}</text>'


def _join(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def strip(
    value: float, interval: tuple[float, float] | None, color: int, low: float, high: float
) -> str:
    """Draw one value with its interval as a thin horizontal mark, for the headline."""
    width, span = 240, (high - low) or 1

    def place(v: float) -> float:
        return 5 + (width - 10) * min(max((v - low) / span, 0.0), 1.0)

    parts = [
        f'<svg class="strip" viewBox="0 0 {width} 12" aria-hidden="true">',
        _segment(4, 6, width - 4, 6, "grid"),
    ]
    if interval is not None:
        parts.append(_segment(place(interval[0]), 6, place(interval[1]), 6, f"wide s{color}"))
    parts.append(f'<circle class="f{color}" cx="{place(value):.1f}" cy="6" r="4.5"/></svg>')
    return "".join(parts)
