"""Figures of accuracy by corruption and severity: an overview first, then each corruption."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from vitreous.report.charts import Chart, Figure, Heatmap, Series
from vitreous.report.figures.common import datasets_of, records_of, series_of, slug
from vitreous.report.sources import Source
from vitreous.report.values import ACCURACIES, PER_MODEL, newest_by, settings_text
from vitreous.results import Record

FEW = 3  # corruptions that are drawn one by one, without an overview

Cells = Mapping[tuple[str, int], Record]


def corruption_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy by corruption and severity, for each set.

    Of more than three corruptions the mean over them and a heat map for each model come first; the
    corruptions one by one are details.
    """
    groups = [
        [
            r
            for r in records_of(source, "corruptions", ACCURACIES)
            if {"corruption", "severity"} <= r.settings.keys()
        ]
        for source in sources
    ]
    figures: list[Figure] = []
    for dataset in datasets_of(groups):
        every = [[r for r in group if r.dataset == dataset] for group in groups]
        first = next(_how(r) for group in every for r in group)
        figures += _of_set(sources, dataset, [_cells(g, first) for g in every])
    return figures


def _how(record: Record) -> str:
    """What else points must share: the convention, and how it was measured."""
    apart = {"corruption", "severity", *PER_MODEL}
    return settings_text({k: v for k, v in record.settings.items() if k not in apart})


def _cells(records: Sequence[Record], how: str) -> Cells:
    mine = [r for r in records if _how(r) == how]
    return newest_by(
        mine, lambda r: (str(r.settings["corruption"]), int(r.settings["severity"])), lambda r: r
    )


def _of_set(sources: Sequence[Source], dataset: str, tables: Sequence[Cells]) -> list[Figure]:
    kinds = list(dict.fromkeys(kind for cells in tables for kind, _ in cells))
    charts = [_chart(sources, dataset, kind, tables) for kind in kinds]
    if len(kinds) <= FEW:
        return list(charts)
    lines = (_mean(source, c, cells) for c, (source, cells) in enumerate(zip(sources, tables)))
    overview = Chart(
        slug("corruptions", dataset),
        f"Mean accuracy over corruptions: {dataset}",
        "line",
        [line for line in lines if line.x],
        "severity",
        "accuracy",
        percent=True,
        caption="The corruptions show the same images, so the mean is taken to be no surer than "
        "they are.",
    )
    maps = [_heatmap(s.name, dataset, kinds, cells) for s, cells in zip(sources, tables) if cells]
    details = [dataclasses.replace(chart, detail=True) for chart in charts]
    return [*([overview] if overview.series else []), *maps, *details]


def _mean(source: Source, color: int, cells: Cells) -> Series:
    """Mean over the corruptions, at the severities at which all of a model's were measured."""
    kinds = {kind for kind, _ in cells}
    levels = [s for s in sorted({s for _, s in cells}) if all((k, s) in cells for k in kinds)]
    columns = [[cells[kind, level] for kind in kinds] for level in levels]
    ends = [[r.ci95 or (math.nan, math.nan) for r in column] for column in columns]
    return Series(
        source.name,
        color,
        levels,
        [sum(r.value for r in column) / len(column) for column in columns],
        [sum(low for low, _ in column) / len(column) for column in ends],
        [sum(high for _, high in column) / len(column) for column in ends],
    )


def _chart(sources: Sequence[Source], dataset: str, kind: str, tables: Sequence[Cells]) -> Chart:
    series = [
        series_of(source, color, points)
        for color, (source, cells) in enumerate(zip(sources, tables))
        if (points := [(float(s), r) for (own, s), r in cells.items() if own == kind])
    ]
    return Chart(
        slug("perturbation", dataset, kind),
        f"Accuracy under {kind.replace('_', ' ')}: {dataset}",
        "line",
        series,
        "severity",
        "accuracy",
        percent=True,
    )


def _heatmap(model: str, dataset: str, kinds: Sequence[str], cells: Cells) -> Heatmap:
    """A model's accuracy on a set: a row for each corruption, a column for each severity."""
    severities = sorted({severity for _, severity in cells})
    values = [
        [cells[kind, s].value if (kind, s) in cells else math.nan for s in severities]
        for kind in kinds
    ]
    return Heatmap(
        slug("corruptions", model, dataset),
        f"Accuracy (%) by corruption and severity: {model}",
        [kind.replace("_", " ") for kind in kinds],
        [str(severity) for severity in severities],
        values,
        caption=f"{dataset}; columns are severities.",
    )
