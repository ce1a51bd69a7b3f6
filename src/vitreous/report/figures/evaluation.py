"""Figures from `extra["evaluation"]`: classes, turned images, calibration, explanations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

from vitreous.models.class_words import class_words
from vitreous.report.charts import PUBLISHED_COLOUR, Chart, Figure, Series
from vitreous.report.figures.common import QUARTERS, slug
from vitreous.report.sources import Source, Table
from vitreous.results import Record, accuracy_record, difference_interval, wilson_interval

NO_CHANGE = (math.nan, math.nan, math.nan)


def _tables(sources: Sequence[Source], key: str) -> Iterator[tuple[str, list[Table | None]]]:
    """For every data set that has the entry, the entry of each model (None where it has none)."""
    sets = [s.results.extra.get("evaluation", {}) for s in sources]
    for dataset in dict.fromkeys(name for one in sets for name in one):
        found = [one.get(dataset, {}).get(key) or None for one in sets]
        if any(found):
            yield dataset, found


def _numbers(values: Sequence[float | None] | None) -> list[float]:
    return [math.nan if v is None else float(v) for v in values or ()]


def _lines(sources: Sequence[Source], tables: list[Table | None], x: str, y: str) -> list[Series]:
    return [
        Series(
            source.name,
            color,
            _numbers(table[x]),
            _numbers(table[y]),
            _numbers(table.get("low")),
            _numbers(table.get("high")),
        )
        for color, (source, table) in enumerate(zip(sources, tables))
        if table
    ]


def _shares(sources: Sequence[Source], tables: list[Table | None], x: str, y: str) -> list[Series]:
    """Lines of proportions `y`, each of the table's `n`, with Wilson intervals."""
    lines = _lines(sources, [t if t and t.get(y) else None for t in tables], x, y)
    counts = [t.get("n") for t in tables if t and t.get(y)]
    return [_with_intervals(line, n) if n else line for line, n in zip(lines, counts)]


def _with_intervals(line: Series, counts: Sequence[int]) -> Series:
    bounds = [wilson_interval(y * n, n) for y, n in zip(line.y, counts)]
    return dataclasses.replace(line, low=[a for a, _ in bounds], high=[b for _, b in bounds])


def class_figures(sources: Sequence[Source]) -> list[Figure]:
    """Change of accuracy for each class from the first model to every other."""
    figures: list[Figure] = []
    for dataset, tables in _tables(sources, "per_class"):
        if tables[0] is None:
            continue
        base = _class_accuracy(tables[0])
        changes = [
            (color, source, _changes(base, _class_accuracy(t)))
            for color, (source, t) in enumerate(zip(sources, tables))
            if color and t
        ]
        if not changes:
            continue
        first = changes[0][2]
        ranked = sorted(first, key=lambda k: first[k])
        shown = ranked if len(ranked) <= 16 else [*ranked[:8], *ranked[-8:]]
        series = [
            _change_series(s.name, c, [d.get(k, NO_CHANGE) for k in shown]) for c, s, d in changes
        ]
        figures.append(
            Chart(
                slug("classes", dataset),
                f"Change of accuracy by class: {dataset}",
                "dots",
                series,
                "",
                f"change from {sources[0].name}",
                percent=True,
                categories=shown,
                caption="" if len(shown) == len(ranked) else "The eight worst and the eight best.",
                rule=0.0,
            )
        )
    return figures


def _change_series(name: str, color: int, changes: list[tuple[float, float, float]]) -> Series:
    y, low, high = zip(*changes)
    return Series(name, color, range(len(changes)), y, low, high)


def _class_accuracy(table: Table) -> dict[str, Record]:
    rows = zip(table.get("name", []), table.get("correct", []), table.get("n", []))
    return {
        class_words(str(name)): accuracy_record("", "", "", int(correct), int(n))
        for name, correct, n in rows
        if n
    }


def _changes(
    before: dict[str, Record], after: dict[str, Record]
) -> dict[str, tuple[float, float, float]]:
    """For each class the change of accuracy and its interval (that of different images)."""
    return {
        name: (after[name].value - base.value, *difference_interval(after[name], base))
        for name, base in before.items()
        if name in after
    }


def turned_figures(sources: Sequence[Source]) -> list[Figure]:
    """How often the answer stays the same when the image is turned."""
    return [
        Chart(
            slug("invariance", dataset),
            f"Same answer on the turned picture: {dataset}",
            "line",
            _shares(sources, tables, "angle", "same_prediction"),
            "angle (degrees)",
            "same prediction",
            percent=True,
            places=QUARTERS,
        )
        for dataset, tables in _tables(sources, "rotation")
        if any(t and t.get("same_prediction") for t in tables)
    ]


def factor_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy by place, angle or size of the object (SI-Score and sets like it)."""
    figures: list[Figure] = []
    for dataset, tables in _tables(sources, "factors"):
        one = next(t for t in tables if t)
        words = any(isinstance(v, str) for v in one["value"])
        categories = [str(v) for v in one["value"]] if words else []
        series = [
            Series(
                source.name,
                color,
                [categories.index(str(v)) for v in table["value"] if str(v) in categories]
                if words
                else _numbers(table["value"]),
                _numbers(table["top1"]),
            )
            for color, (source, table) in enumerate(zip(sources, tables))
            if table and (not words or [str(v) for v in table["value"]] == categories)
        ]
        name = str(one.get("name", "factor"))
        title = f"Accuracy by {name}: {dataset}"
        kind = "dots" if words else "line"
        figures.append(
            Chart(
                slug("factor", dataset, name),
                title,
                kind,
                series,
                "" if words else name,
                "accuracy",
                percent=True,
                categories=categories,
            )
        )
    return figures


def calibration_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy against confidence."""
    figures: list[Figure] = []
    for dataset, tables in _tables(sources, "calibration"):
        series = []
        for color, (source, table) in enumerate(zip(sources, tables)):
            if not table:
                continue
            rows = zip(table["confidence"], table["accuracy"], table["n"])
            points = [(float(c), float(a), n) for c, a, n in rows if n and c is not None]
            if points:
                x, y, counts = zip(*points)
                low, high = _bounds(y, counts)
                series.append(Series(source.name, color, x, y, low, high))
        if series:
            figures.append(
                Chart(
                    slug("calibration", dataset),
                    f"Calibration: {dataset}",
                    "line",
                    series,
                    "confidence",
                    "accuracy",
                    percent=True,
                    percent_x=True,
                    diagonal=True,
                    caption="On the dashed line the model is as sure as it is right.",
                )
            )
    return figures


def _bounds(shares: Sequence[float], counts: Sequence[int]) -> tuple[list[float], list[float]]:
    """Ends of the intervals of shares; NaN where there is none."""
    empty = (math.nan, math.nan)
    ends = [wilson_interval(s * n, n) if n else empty for s, n in zip(shares, counts)]
    return [low for low, _ in ends], [high for _, high in ends]


def shape_figures(sources: Sequence[Source]) -> list[Figure]:
    """Shape bias by category: share of shape among decisions for shape or texture."""
    figures: list[Figure] = []
    for dataset, tables in _tables(sources, "shape_bias"):
        categories = [str(c) for c in next(t for t in tables if t)["category"]]
        series = []
        for color, (source, table) in enumerate(zip(sources, tables)):
            if table and [str(c) for c in table["category"]] == categories:
                counts = [s + t for s, t in zip(table["shape"], table["texture"])]
                shares = [s / n if n else math.nan for s, n in zip(table["shape"], counts)]
                low, high = _bounds(shares, counts)
                series.append(Series(source.name, color, range(len(shares)), shares, low, high))
        figures.append(
            Chart(
                slug("shape_bias", dataset),
                f"Shape bias: {dataset}",
                "dots",
                series,
                "",
                "shape / (shape + texture)",
                percent=True,
                categories=categories,
            )
        )
    return figures


def testbed_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy on a shifted set against the clean one, among published models."""
    figures: list[Figure] = []
    for dataset, tables in _tables(sources, "effective_robustness"):
        one = next(t for t in tables if t)
        known = [p for p in one.get("points", []) if None not in p]
        xs, ys = [float(x) for x, _ in known], [float(y) for _, y in known]
        series = [Series("published models", PUBLISHED_COLOUR, xs, ys)] if known else []
        if one.get("line") and known:
            series.append(_logit_line(one["line"], xs))
        for color, (source, table) in enumerate(zip(sources, tables)):
            if table and table.get("model"):
                x, y = _numbers(table["model"])
                ends = _bounds([y], [int(table["n"][1])]) if table.get("n") else ((), ())
                series.append(Series(source.name, color, [x], [y], *ends))
        figures.append(
            Chart(
                slug("effective_robustness", dataset),
                f"Effective robustness: {dataset}",
                "points",
                series,
                str(one.get("x", "accuracy")),
                str(one.get("y", dataset)),
                percent=True,
                percent_x=True,
                caption="The line fits the published models; above it is effective robustness.",
            )
        )
    return figures


def _logit_line(line: Sequence[float], xs: Sequence[float]) -> Series:
    """A line in logits, drawn in accuracies."""
    intercept, slope = _numbers(line)
    low, high = max(min(xs), 0.01), min(max(xs), 0.99)
    x = [low + (high - low) * i / 40 for i in range(41)]
    y = [1 / (1 + math.exp(-(intercept + slope * math.log(v / (1 - v))))) for v in x]
    return Series("their line", PUBLISHED_COLOUR, x, y, line=True)


def removal_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy after removing the most, and the least, relevant pixels, by method."""
    figures: list[Figure] = []
    for dataset, tables in _tables(sources, "explanations"):
        for kind, words in (("positive", "most"), ("negative", "least")):
            for method in dict.fromkeys(m for t in tables if t for m in t):
                parts = [t.get(method) if t else None for t in tables]
                series = _shares(sources, parts, "fraction", kind)
                if series:
                    figures.append(
                        Chart(
                            slug("removal", kind, dataset, method),
                            f"Removing the {words} relevant pixels first: {method}, {dataset}",
                            "line",
                            series,
                            "share of pixels removed",
                            "accuracy",
                            percent=True,
                            percent_x=True,
                        )
                    )
    return figures


MAKERS: tuple[Callable[[Sequence[Source]], list[Figure]], ...] = (
    class_figures,
    turned_figures,
    factor_figures,
    testbed_figures,
    shape_figures,
    calibration_figures,
    removal_figures,
)
