"""Figures of brain alignment: score by depth, regions beside published values, RDMs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vitreous.report.charts import PUBLISHED_COLOUR, Chart, Figure, Heatmap, Series
from vitreous.report.figures.common import records_of, series_of, slug
from vitreous.report.sources import Source
from vitreous.results import Record

PUBLISHED_CONVENTION = "brainscore_2022"


def depth_figures(sources: Sequence[Source]) -> list[Figure]:
    """Brain score of every layer against its depth, a figure for each region."""
    tables = [s.results.extra.get("depth", {}) for s in sources]
    figures: list[Figure] = []
    for region in dict.fromkeys(name for table in tables for name in table):
        found = [
            _depth_series(source, color, table[region])
            for color, (source, table) in enumerate(zip(sources, tables))
            if table.get(region)
        ]
        series = [s for s in found if s.y]
        if series:
            figures.append(
                Chart(
                    slug("depth", region),
                    f"Score by depth: {region}",
                    "line",
                    series,
                    "depth (0: first layer, 1: last)",
                    "score",
                    caption="Bands are 95 % over the splits.",
                )
            )
    return figures


def _depth_series(source: Source, color: int, rows: Sequence[Mapping[str, Any]]) -> Series:
    known = sorted((r for r in rows if r.get("score") is not None), key=lambda r: r["depth"])
    scores = [float(r["score"]) for r in known]
    halves = [math.nan if r.get("error") is None else 1.96 * float(r["error"]) for r in known]
    return Series(
        source.name,
        color,
        [float(r["depth"]) for r in known],
        scores,
        [s - h for s, h in zip(scores, halves)],
        [s + h for s, h in zip(scores, halves)],
        labels=[str(r.get("layer", "")) for r in known],
    )


def region_figures(sources: Sequence[Source]) -> list[Figure]:
    """Brain scores by region, under each convention; published rows from `brain_reference`."""
    figures: list[Figure] = []
    for metric, convention, words in (
        ("ceiled", PUBLISHED_CONVENTION, "ceiled as in the 2022 paper"),
        ("ceiled", "brainscore_2026", "ceiled, r² / ceiling"),
        ("raw", None, "raw correlation"),
    ):
        groups = [
            _by_region(r for r in _scores(s, metric) if r.settings.get("convention") == convention)
            for s in sources
        ]
        regions = list(dict.fromkeys(region for group in groups for region in group))
        if not regions:
            continue
        series = [
            series_of(s, c, [(float(regions.index(k)), r) for k, r in group.items()])
            for c, (s, group) in enumerate(zip(sources, groups))
            if group
        ]
        rows = _published(sources) if convention == PUBLISHED_CONVENTION else {}
        for place, (name, row) in enumerate(rows.items()):
            values = [float(row.get(region, math.nan)) for region in regions]
            color = PUBLISHED_COLOUR + place % 5
            series.append(Series(f"{name} (published)", color, range(len(regions)), values))
        caption = "Published rows were measured on Brain-Score's private sets." if rows else ""
        figures.append(
            Chart(
                slug("brain", convention or metric),
                f"Brain scores by region: {words}",
                "bars",
                series,
                "",
                "score",
                categories=regions,
                caption=caption,
            )
        )
    return figures


def _scores(source: Source, metric: str) -> list[Record]:
    return [r for r in records_of(source, "brain", (metric,)) if "region" in r.settings]


def _by_region(records: Iterable[Record]) -> dict[str, Record]:
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(str(record.settings["region"]), record)
    return first


def _published(sources: Sequence[Source]) -> dict[str, Mapping[str, Any]]:
    found = (s.results.extra.get("brain_reference") for s in sources)
    return next((rows for rows in found if rows), {})


def matrix_figures(sources: Sequence[Source]) -> list[Figure]:
    """Dissimilarity matrices, side by side; one that several models share is shown once."""
    figures: list[Figure] = []
    seen: list[object] = []
    tables = [s.results.extra.get("rdms", {}) for s in sources]
    for source, table in zip(sources, tables):
        for name, matrix in table.items():
            if (name, matrix) in seen:
                continue
            seen.append((name, matrix))
            values = [[math.nan if v is None else float(v) for v in row] for row in matrix]
            labels = [str(i + 1) for i in range(len(values))]
            figures.append(
                Heatmap(
                    slug("rdm", source.name, name),
                    f"Dissimilarity of responses: {name}",
                    labels,
                    labels,
                    values,
                    percent=False,
                    cells=False,
                    caption="" if sum(t.get(name) == matrix for t in tables) > 1 else source.name,
                )
            )
    return figures
