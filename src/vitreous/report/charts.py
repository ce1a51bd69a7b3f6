"""What a figure shows, apart from how it is drawn (`drawing`)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

PUBLISHED_COLOUR = 6


@dataclasses.dataclass(frozen=True)
class Series:
    """One line, or one kind of marks.

    Attributes:
        name: As the legend shows it.
        colour: Which of the six model colours, 0 to 5, or of the five of published values, from
            `PUBLISHED_COLOUR`.
        x: Positions, or the places 0, 1, … of categories.
        y: Values; NaN where there is none.
        low: Lower ends of the 95 % intervals, or empty.
        high: Upper ends, or empty.
        dashed: Draw the line dashed (training beside validation).
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
    line: bool = False
    group: str = ""

    def interval(self, index: int) -> tuple[float, float] | None:
        """The interval of one point, if it has one."""
        if not self.low or not self.high or math.isnan(self.low[index]):
            return None
        return self.low[index], self.high[index]


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines or points on two axes, or a row of dots for each of some categories.

    Attributes:
        key: Name of the figure's file.
        title: One line above it.
        kind: `line`, `points` or `dots`.
        series: What is drawn; for dots, `x` is the place of the category and `y` the value.
        x_label: Under the axis (dots: empty).
        y_label: What the values are.
        percent: Whether values are fractions to be shown as percent.
        categories: Names of the rows of dots.
        caption: What a reader must know to read it.
        percent_x: The same as `percent` for the x axis.
        diagonal: Draw the line of equal values.
        rule: Value of a thin line across, for example 0 for changes.
        places: Where the x axis has its labels, if not at round numbers.
        detail: Part of what another figure sums up: folded away on the page.
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
    detail: bool = False

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
        label: What the colours mean.
        detail: As of a `Chart`.
    """

    key: str
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    percent: bool = True
    caption: str = ""
    cells: bool = True
    label: str = ""
    detail: bool = False

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
