"""What a figure shows, apart from how it is drawn: `svg` puts it in the page, `png` in a file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

PUBLISHED_COLOUR = 6


@dataclasses.dataclass(frozen=True)
class Series:
    """One line, or one colour of bars.

    Attributes:
        name: As the legend shows it.
        colour: Which of the six model colours, 0 to 5, or of the five of published values, from
            `PUBLISHED_COLOUR`.
        x: Positions, or the places 0, 1, … of categories.
        y: Values; NaN where there is none.
        low: Lower ends of the 95 % intervals, or empty.
        high: Upper ends, or empty.
        dashed: Draw the line dashed (training beside validation).
        labels: What a pointer over a point shows beside the value, or empty.
        line: Draw it as a line in a chart of points.
        group: What the legend shows instead, once for all series of the group.
    """

    name: str
    color: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False
    labels: Sequence[str] = ()
    line: bool = False
    group: str = ""

    def interval(self, index: int) -> tuple[float, float] | None:
        """The interval of one point, if it has one."""
        if not self.low or not self.high or math.isnan(self.low[index]):
            return None
        return self.low[index], self.high[index]


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines, points or bars on two axes.

    Attributes:
        key: Name of the figure's file.
        title: One line above it.
        kind: `line`, `points` or `bars`.
        series: What is drawn.
        x_label: Under the axis.
        y_label: Beside it.
        percent: Whether values are fractions to be shown as percent.
        categories: Names of the places on the x axis; empty for a numeric axis.
        caption: What a reader must know to read it.
        percent_x: The same as `percent` for the x axis.
        diagonal: Draw the line of equal values.
        rule: Height of a thin line across, for example 0 for changes.
        places: Where the x axis has its labels, if not at round numbers.
    """

    key: str
    title: str
    kind: str
    series: Sequence[Series]
    x_label: str = ""
    y_label: str = ""
    percent: bool = False
    categories: Sequence[str] = ()
    caption: str = ""
    percent_x: bool = False
    diagonal: bool = False
    rule: float | None = None
    places: Sequence[float] = ()

    @property
    def legend(self) -> list[tuple[str, int, bool]]:
        """Name, colour and whether dashed, of each series or group of series."""
        rows = [
            (s.group, s.color, False) if s.group else (s.name, s.color, s.dashed)
            for s in self.series
        ]
        return list(dict.fromkeys(rows))

    @property
    def alt(self) -> str:
        """Describe the figure for readers who do not see it: ranges of every series."""
        show = percent if self.percent else number
        parts = []
        for series in self.series:
            values = [v for v in series.y if not math.isnan(v)]
            if not values:
                continue
            text = f"{series.name}: "
            if self.kind == "line" and len(values) > 1:
                text += f"from {show(values[0])} to {show(values[-1])}"
                text += f" (lowest {show(min(values))}, highest {show(max(values))})"
            elif self.categories:
                named = zip(series.x, series.y)
                text += ", ".join(
                    f"{self.categories[int(x)]} {show(y)}" for x, y in named if not math.isnan(y)
                )
            else:
                text += f"{len(values)} points between {show(min(values))} and {show(max(values))}"
            parts.append(text)
        return f"{self.title}. {'; '.join(parts)}."


@dataclasses.dataclass(frozen=True)
class Heatmap:
    """A table of numbers as colours.

    Attributes:
        key: Name of the figure's file.
        title: One line above it.
        rows: Names of the rows.
        columns: Names of the columns.
        values: Rows of numbers; NaN where there is none.
        percent: Whether values are fractions to be shown as percent.
        caption: What a reader must know to read it.
        cells: Write the number into each cell (for small tables).
    """

    key: str
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    percent: bool = True
    caption: str = ""
    cells: bool = True

    @property
    def alt(self) -> str:
        """Describe the figure for readers who do not see it."""
        show = percent if self.percent else number
        flat = [v for row in self.values for v in row if not math.isnan(v)]
        if not flat:
            return f"{self.title}. No values."
        size = f"{len(self.rows)} × {len(self.columns)} values"
        return f"{self.title}. {size} between {show(min(flat))} and {show(max(flat))}."


Figure = Chart | Heatmap


def percent(value: float) -> str:
    """Write a fraction as percent: 0.8123 → `81.2 %`."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def number(value: float) -> str:
    """Write a number with about three digits."""
    if math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2e}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round places between `low` and `high`, at most about `count` of them."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    raw = span / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(s * unit for s in (1, 2, 2.5, 5, 10) if s * unit >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def limits(chart: Chart) -> tuple[float, float]:
    """Range of the y axis: everything drawn with a margin; bars and percent start where fair."""
    values = [v for s in chart.series for v in (*s.y, *s.low, *s.high) if math.isfinite(v)]
    values += [chart.rule] if chart.rule is not None else []
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if chart.kind == "bars" or (chart.percent and low >= 0 and high - low > 0.4):
        low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 0.5
    bottom = low if low == 0 else low - margin
    if chart.percent and low >= 0:
        return max(0.0, bottom), min(1.0, high + margin) if high <= 1 else high + margin
    return bottom, (high if high == 0 else high + margin)


def tick_text(values: Sequence[float], as_percent: bool) -> Callable[[float], str]:
    """A way to write all tick labels of one axis with the same number of digits."""
    scale = 100 if as_percent else 1
    step = round((values[1] - values[0]) * scale, 9) if len(values) > 1 else 1
    largest = max((abs(v) * scale for v in values), default=0)
    if largest and (largest < 1e-3 or largest >= 1e5):
        return lambda value: f"{value * scale:.1e}" if value else "0"
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if step * 10**digits % 1 > 1e-6:
        digits += 1
    return lambda value: f"{value * scale:.{digits}f}" + (" %" if as_percent else "")
