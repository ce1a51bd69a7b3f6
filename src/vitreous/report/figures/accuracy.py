"""Figures of accuracy: under shift, attack, rotation and corruption."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitreous.report.charts import Chart, Figure
from vitreous.report.figures.common import (
    QUARTERS,
    corruption_map,
    datasets_of,
    records_of,
    series_of,
    slug,
)
from vitreous.report.sources import Source
from vitreous.report.values import ACCURACIES, newest_by
from vitreous.results import Record


def shift_figure(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy on the clean and on every shifted set, a row of dots for each, with intervals.

    Sets differ in how many classes they are decided among, so a row compares models, and not sets
    with each other.
    """
    groups = [
        newest_by(
            [r for suite in ("clean", "shifts") for r in records_of(source, suite, ACCURACIES)],
            _row,
            lambda r: r,
        )
        for source in sources
    ]
    rows = list(dict.fromkeys(row for group in groups for row in group))
    rows.sort(key=lambda row: row[0] != "clean")
    if not any(suite == "shifts" for suite, *_ in rows):
        return []
    several = len({dataset for _, dataset, _ in rows}) < len(rows)
    series = [
        series_of(source, color, [(float(rows.index(row)), r) for row, r in group.items()])
        for color, (source, group) in enumerate(zip(sources, groups))
        if group
    ]
    names = [
        f"{dataset}{' (clean)' if suite == 'clean' else ''}"
        f"{f', {convention}' if several and convention else ''}"
        for suite, dataset, convention in rows
    ]
    return [
        Chart(
            "accuracy_on_shifted_sets",
            "Accuracy on the clean and the shifted sets",
            "dots",
            series,
            "",
            "accuracy",
            percent=True,
            categories=names,
        )
    ]


def _row(record: Record) -> tuple[str, str, str]:
    return record.suite, record.dataset, str(record.settings.get("convention") or "")


def robustness_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy against the size of the perturbation, one figure for each set, attack and norm."""
    groups = [records_of(s, "attack", ACCURACIES) for s in sources]
    kinds = dict.fromkeys(
        (r.dataset, str(r.settings.get("attack", "")), str(r.settings.get("norm", "linf")))
        for group in groups
        for r in group
        if "epsilon" in r.settings
    )
    figures: list[Figure] = []
    for dataset, attack, norm in kinds:
        series = []
        for color, group in enumerate(groups):
            mine = [r for r in group if r.dataset == dataset and "epsilon" in r.settings]
            mine = [r for r in mine if str(r.settings.get("attack", "")) == attack]
            mine = [r for r in mine if str(r.settings.get("norm", "linf")) == norm]
            points = _worst_by(mine, "epsilon")
            if points:
                scale = 255 if norm == "linf" else 1
                scaled = [(x * scale, r) for x, r in points]
                series.append(series_of(sources[color], color, scaled))
        if max((len(s.x) for s in series), default=0) > 1:
            unit = "ε (in 1/255, L∞)" if norm == "linf" else f"ε ({norm})"
            figures.append(
                Chart(
                    slug("robustness", dataset, attack, norm),
                    f"Accuracy under attack: {attack or 'attack'} on {dataset}",
                    "line",
                    series,
                    unit,
                    "accuracy",
                    percent=True,
                )
            )
    return figures


def _worst_by(records: list[Record], setting: str) -> list[tuple[float, Record]]:
    """The lowest accuracy at each value of a setting: the strongest of several attacks."""
    worst: dict[float, Record] = {}
    for record in records:
        place = float(record.settings[setting])
        if place not in worst or record.value < worst[place].value:
            worst[place] = record
    return sorted(worst.items())


def rotation_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy against the angle by which pictures are turned."""
    groups = [
        [
            r
            for r in records_of(s, "rotation", ACCURACIES)
            if "angle" in r.settings and not r.settings.get("disc")
        ]
        for s in sources
    ]
    figures: list[Figure] = []
    for dataset in datasets_of(groups):
        series = [
            series_of(
                s, c, [(float(r.settings["angle"]), r) for r in group if r.dataset == dataset]
            )
            for c, (s, group) in enumerate(zip(sources, groups))
            if any(r.dataset == dataset for r in group)
        ]
        if max(len(s.x) for s in series) > 1:
            figures.append(
                Chart(
                    slug("rotation", dataset),
                    f"Accuracy on turned pictures: {dataset}",
                    "line",
                    series,
                    "angle (degrees)",
                    "accuracy",
                    percent=True,
                    places=QUARTERS,
                )
            )
    return figures


def corruption_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy by corruption and severity, a heat map for each model and set.

    Sets whose tables in `extra` are drawn by `figures.evaluation` are left to it.
    """
    figures: list[Figure] = []
    for source in sources:
        drawn = source.results.extra.get("evaluation", {})
        records = [
            r
            for r in records_of(source, "corruptions", ACCURACIES)
            if {"corruption", "severity"} <= r.settings.keys()
            and not drawn.get(r.dataset, {}).get("perturbations")
            and not drawn.get(r.dataset, {}).get("corruptions")
        ]
        for dataset in datasets_of([records]):
            mine = [r for r in records if r.dataset == dataset]
            rows = list(dict.fromkeys(str(r.settings["corruption"]) for r in mine))
            columns = sorted({r.settings["severity"] for r in mine})
            table = {(str(r.settings["corruption"]), r.settings["severity"]): r.value for r in mine}
            values = [[table.get((row, c), math.nan) for c in columns] for row in rows]
            figures.append(corruption_map(source.name, dataset, rows, columns, values))
    return figures
