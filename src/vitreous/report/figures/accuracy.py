"""Figures of accuracy: under shift, attack and rotation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vitreous.report.charts import Chart, Figure
from vitreous.report.figures.common import (
    QUARTERS,
    datasets_of,
    records_of,
    series_of,
    slug,
)
from vitreous.report.sources import Source
from vitreous.report.values import ACCURACIES, PER_MODEL, newest_by, settings_text
from vitreous.results import Record

SHOWN = ("clean", "shifts", "backgrounds")


def shift_figure(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy on the clean and on every shifted set, a row of dots for each, with intervals.

    Sets differ in how many classes they are decided among, so a row compares models, and not sets
    with each other.
    """
    groups = [
        newest_by(
            [r for suite in SHOWN for r in records_of(source, suite, ACCURACIES)],
            _row,
            lambda r: r,
        )
        for source in sources
    ]
    rows = list(dict.fromkeys(row for group in groups for row in group))
    rows.sort(key=lambda row: SHOWN.index(row[0]))
    if not any(suite == "shifts" for suite, *_ in rows):
        return []
    several = len({dataset for _, dataset, _ in rows}) < len(rows)
    series = [
        series_of(source, color, [(float(rows.index(row)), r) for row, r in group.items()])
        for color, (source, group) in enumerate(zip(sources, groups))
        if group
    ]
    names = [
        f"{dataset}{'' if suite == 'shifts' else f' ({suite})'}"
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
    """Accuracy against the size of the perturbation, one figure for each set and attack.

    Attacks of other settings (steps, restarts, loss) are other attacks: their points share no line.
    """
    groups = [
        [r for r in records_of(s, "attack", ACCURACIES) if "epsilon" in r.settings] for s in sources
    ]
    kinds = dict.fromkeys(_attack(r) for group in groups for r in group)
    named = [(kind.dataset, kind.attack, kind.norm) for kind in kinds]
    figures: list[Figure] = []
    for kind, name in zip(kinds, named):
        scale = 255 if kind.norm == "linf" else 1
        series = [
            series_of(s, color, [(float(r.settings["epsilon"]) * scale, r) for r in mine])
            for color, (s, group) in enumerate(zip(sources, groups))
            if (mine := [r for r in group if _attack(r) == kind])
        ]
        if max(len(s.x) for s in series) > 1:
            how = kind.words if named.count(name) > 1 else ""
            unit = "ε (in 1/255, L∞)" if kind.norm == "linf" else f"ε ({kind.norm})"
            figures.append(
                Chart(
                    slug("robustness", *name, how.replace(" ", "_")),
                    f"Accuracy under attack: {kind.attack or 'attack'} on {kind.dataset}"
                    + (f" ({how})" if how else ""),
                    "line",
                    series,
                    unit,
                    "accuracy",
                    percent=True,
                )
            )
    return figures


@dataclasses.dataclass(frozen=True)
class _Attack:
    """What points must share to be joined by a line; `words` are its other settings."""

    dataset: str
    attack: str
    norm: str
    words: str


def _attack(record: Record) -> _Attack:
    given = {k: v for k, v in record.settings.items() if k not in PER_MODEL}
    own = {k: v for k, v in given.items() if k not in ("attack", "norm", "epsilon")}
    attack, norm = str(given.get("attack", "")), str(given.get("norm", "linf"))
    return _Attack(record.dataset, attack, norm, settings_text(own))


def rotation_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy against the angle by which images are turned."""
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
