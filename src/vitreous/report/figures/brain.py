"""Figures of brain alignment: score by depth, regions beside published values, RDMs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vitreous.report.brain_scores import BrainScore, Kind, brain_scores
from vitreous.report.charts import PUBLISHED_COLOUR, Chart, Figure, Heatmap, Series
from vitreous.report.figures.common import series_of, slug
from vitreous.report.sources import Source, Table
from vitreous.report.values import newest_by
from vitreous.statistics import rdm_correlation

# The published table is of PLS regressions, ceiled in this way.
PUBLISHED_METRIC, PUBLISHED_CONVENTION = "pls", "brainscore_2022"
PIXELS = "pixels"


def depth_figures(sources: Sequence[Source]) -> list[Figure]:
    """Brain score of every layer against its depth, a figure for each region and recording."""
    tables = [s.results.extra.get("depth", {}) for s in sources]
    figures: list[Figure] = []
    for name in dict.fromkeys(name for table in tables for name in table):
        series = []
        for color, (source, table) in enumerate(zip(sources, tables)):
            if table.get(name):
                series += _depth_series(source, color, table[name], _baseline(source, name))
        if series:
            figures.append(
                Chart(
                    slug("depth", name),
                    f"Score by depth: {name}",
                    "line",
                    series,
                    "depth (0: first layer, 1: last)",
                    "score",
                    caption="Bands are 95 % over the splits. "
                    + "Dashed: the pixels themselves." * any(s.dashed for s in series),
                )
            )
    return figures


def _baseline(source: Source, name: str) -> float | None:
    """Score of the pixels, which have no depth."""
    table = source.results.extra.get("pixels", {})
    return (table.get(name) or {}).get("score")


def _depth_series(
    source: Source, color: int, rows: Sequence[Table], baseline: float | None
) -> list[Series]:
    known = sorted((r for r in rows if r.get("score") is not None), key=lambda r: r["depth"])
    pixels = [float(r["score"]) for r in known if r.get("layer") == PIXELS]
    known = [r for r in known if r.get("layer") != PIXELS]
    pixels += [] if baseline is None else [float(baseline)]
    if not known:
        return []
    x, scores = [float(r["depth"]) for r in known], [float(r["score"]) for r in known]
    halves = [math.nan if r.get("error") is None else 1.96 * float(r["error"]) for r in known]
    low = [s - h for s, h in zip(scores, halves)]
    high = [s + h for s, h in zip(scores, halves)]
    lines = [Series(source.name, color, x, scores, low, high, group=source.name)]
    for value in pixels[:1]:
        ends = [min(x), max(x)]
        name = f"{source.name}, pixels"
        lines.append(Series(name, color, ends, [value] * 2, dashed=True, group=source.name))
    return lines


def region_figures(sources: Sequence[Source]) -> list[Figure]:
    """Brain scores by region and layer: a figure for each recording, metric and convention."""
    groups = [brain_scores(s) for s in sources]
    kinds = dict.fromkeys(score.kind for group in groups for score in group)
    return [_region_figure(sources, groups, kind) for kind in kinds]


def _region_figure(
    sources: Sequence[Source], groups: Sequence[Sequence[BrainScore]], kind: Kind
) -> Figure:
    mine = [[s for s in group if s.kind == kind] for group in groups]
    compared = kind.metric == PUBLISHED_METRIC and kind.convention == PUBLISHED_CONVENTION
    published = _published(sources) if compared else {}
    regions = list(dict.fromkeys(s.region for group in mine for s in group))
    published = {n: row for n, row in published.items() if any(row.get(r) for r in regions)}
    rows = []
    for region in regions:
        layers = dict.fromkeys(s.layer for group in mine for s in group if s.region == region)
        rows += [(region, layer) for layer in layers]
        if published:
            rows.append((region, "published"))
    series = []
    for color, (source, group) in enumerate(zip(sources, mine)):
        best = newest_by(group, lambda s: (s.region, s.layer), lambda s: s.record)
        points = [(float(rows.index(place)), s.record) for place, s in best.items()]
        if points:
            series.append(series_of(source, color, points))
    for place, (name, row) in enumerate(published.items()):
        ys = [float(row.get(region, math.nan)) for region in regions]
        xs = [float(rows.index((region, "published"))) for region in regions]
        series.append(Series(f"{name} (published)", PUBLISHED_COLOUR + place % 5, xs, ys))
    remarks = ["The layers were chosen on these recordings, which flatters them."]
    remarks = remarks * kind.chosen_on_it
    remarks += ["Hollow: published rows, on Brain-Score's private sets."] * bool(published)
    if any(s.record.ci95 is None for group in mine for s in group):
        remarks.append("No interval is known for some.")
    return Chart(
        slug("brain", kind.assembly, kind.metric, kind.convention, "chosen" * kind.chosen_on_it),
        f"Brain scores, {kind.assembly}: {kind.words}",
        "dots",
        series,
        "",
        kind.words,
        categories=[f"{region} · {layer}" for region, layer in rows],
        caption=" ".join(remarks),
    )


def _published(sources: Sequence[Source]) -> dict[str, Table]:
    tables = (s.results.extra.get("brain_reference") for s in sources)
    return next((rows for rows in tables if rows), {})


def matrix_figures(sources: Sequence[Source]) -> list[Figure]:
    """Dissimilarity matrices, side by side; one that several models share is shown once."""
    figures: list[Figure] = []
    seen: list[object] = []
    tables = [s.results.extra.get("rdms", {}) for s in sources]
    for source, table in zip(sources, tables):
        matrices = {name: np.array(_floats(matrix)) for name, matrix in table.items()}
        for name, matrix in table.items():
            if (name, matrix) in seen:
                continue
            seen.append((name, matrix))
            labels = [str(i + 1) for i in range(len(matrix))]
            shared = sum(t.get(name) == matrix for t in tables) > 1
            parts = [] if shared else [f"{source.name}."]
            parts += [] if shared else _similarities(name, matrices)
            figures.append(
                Heatmap(
                    slug("rdm", source.name, name),
                    f"Dissimilarity of responses: {name}",
                    labels,
                    labels,
                    _floats(matrix),
                    percent=False,
                    cells=False,
                    caption=" ".join(parts),
                    label="1 − r",
                )
            )
    return figures


def _floats(matrix: Sequence[Sequence[float | None]]) -> list[list[float]]:
    return [[math.nan if v is None else float(v) for v in row] for row in matrix]


def _similarities(name: str, matrices: Mapping[str, np.ndarray]) -> list[str]:
    """Spearman's correlation with the other matrices of the same region and images."""
    told = []
    for other, matrix in matrices.items():
        related = bool(set(name.replace(":", "").split()) & set(other.replace(":", "").split()))
        if other != name and related and matrix.shape == matrices[name].shape:
            value = rdm_correlation(matrices[name], matrix)
            told.append(
                f"Spearman’s ρ with “{other}”: {value:.2f}, over the {len(matrix)} images shown."
            )
    return told
