"""What all figures are made from: records of a suite, and a line through them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from vitreous.report.charts import Series
from vitreous.report.sources import Source
from vitreous.results import Record

QUARTERS = (0.0, 90.0, 180.0, 270.0, 360.0)


def records_of(source: Source, suite: str, metrics: Iterable[str]) -> list[Record]:
    """Records of a suite whose metric is one of those given."""
    wanted = set(metrics)
    return [r for r in source.records if r.suite == suite and r.metric in wanted]


def datasets_of(groups: Iterable[list[Record]]) -> list[str]:
    """Names of the data sets of all models' records, each once."""
    return list(dict.fromkeys(r.dataset for group in groups for r in group))


def series_of(
    source: Source,
    color: int,
    points: list[tuple[float, Record]],
    *,
    name: str = "",
    group: str = "",
) -> Series:
    """Sort records by their place on the x axis into a series with intervals."""
    points = sorted(points, key=lambda p: p[0])
    intervals = [r.ci95 or (math.nan, math.nan) for _, r in points]
    return Series(
        name or source.name,
        color,
        [x for x, _ in points],
        [r.value for _, r in points],
        [low for low, _ in intervals],
        [high for _, high in intervals],
        group=group,
    )


def slug(*parts: str) -> str:
    """Make a file name of a figure's parts."""
    text = "_".join(p for p in parts if p)
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text.lower())
