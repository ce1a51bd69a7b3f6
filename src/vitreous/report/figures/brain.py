"""Figures of brain alignment: score by depth, regions beside published values, RDMs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitreous.report.charts import Chart, Figure, Heatmap, Series
from vitreous.report.figures.common import records_of, series_of, slug
from vitreous.report.sources import Source
from vitreous.results import Record


def depth_figures(sources: Sequence[Source]) -> list[Figure]:
    """Brain score of every layer against its depth, a figure for each region."""
    tables = [s.results.extra.get("depth", {}) for s in sources]
    figures: list[Figure] = []
    for region in dict.fromkeys(name for table in tables for name in table):
        series = []
        for colour, (source, table) in enumerate(zip(sources, tables)):
            rows = [r for r in table.get(region, []) if r.get("score") is not None]
            rows = sorted(rows, key=lambda r: r.get("depth", 0))
            if rows:
                errors = [float(r.get("error") or math.nan) for r in rows]
                scores = [float(r["score"]) for r in rows]
                series.append(
                    Series(
                        source.name,
                        colour,
                        [float(r.get("depth", i)) for i, r in enumerate(rows)],
                        scores,
                        [s - 1.96 * e for s, e in zip(scores, errors)],
                        [s + 1.96 * e for s, e in zip(scores, errors)],
                        labels=[str(r.get("layer", "")) for r in rows],
                    )
                )
        if series:
            title = f"Score by depth: {region}"
            figures.append(Chart(slug("depth", region), title, "line", series, "depth", "score"))
    return figures


def region_figures(sources: Sequence[Source]) -> list[Figure]:
    """Brain scores by region; published rows from `extra["brain_reference"]` beside them."""
    groups = [
        [
            r
            for r in records_of(s, "brain", ("ceiled", "ceiled_score", "score"))
            if "region" in r.settings
        ]
        for s in sources
    ]
    regions = list(dict.fromkeys(str(r.settings["region"]) for g in groups for r in g))
    if not regions:
        return []
    series = []
    for colour, (source, group) in enumerate(zip(sources, groups)):
        first: dict[str, Record] = {}
        for record in group:
            first.setdefault(str(record.settings["region"]), record)
        points = [(float(regions.index(k)), r) for k, r in first.items()]
        if points:
            series.append(series_of(source, colour, points))
    reference = next((r for s in sources if (r := s.results.extra.get("brain_reference"))), {})
    for name, row in list(reference.items())[: max(0, 6 - len(series))]:
        scores = [float(row.get(region, math.nan)) for region in regions]
        series.append(Series(f"{name} (published)", len(series), range(len(regions)), scores))
    return [
        Chart(
            "brain_regions",
            "Brain scores by region",
            "bars",
            series,
            "",
            "score",
            categories=regions,
        )
    ]


def matrix_figures(sources: Sequence[Source]) -> list[Figure]:
    """Dissimilarity matrices, side by side; those of the same data from several models once."""
    figures: list[Figure] = []
    seen: list[object] = []
    for source in sources:
        for name, matrix in source.results.extra.get("rdms", {}).items():
            if (name, matrix) in seen:
                continue
            seen.append((name, matrix))
            labels = [str(i + 1) for i in range(len(matrix))]
            values = [[math.nan if v is None else float(v) for v in row] for row in matrix]
            figures.append(
                Heatmap(
                    slug("rdm", source.name, name),
                    f"Dissimilarity of responses: {name} ({source.name})",
                    labels,
                    labels,
                    values,
                    percent=False,
                    cells=False,
                )
            )
    return figures
