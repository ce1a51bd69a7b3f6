"""The figures of a card, from records, `extra` and metrics.jsonl; none where nothing is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vitreous.report.charts import Chart, Figure, Heatmap, Series
from vitreous.report.sources import Source
from vitreous.report.values import ACCURACIES
from vitreous.results import Record

Maker = Callable[[Sequence[Source]], list[Figure]]
LARGEST_CURVE = 200
CURVES_FIRST = ("loss", "top1", "accuracy", "pgd", "robust", "foreground")


def measured(sources: Sequence[Source]) -> list[Figure]:
    """All figures of measurements, in the order of the page."""
    makers: list[Maker] = [
        shift_figure,
        robustness_figures,
        rotation_figures,
        corruption_figures,
        class_figures,
        depth_figures,
        region_figures,
    ]
    return [figure for make in makers for figure in make(sources)]


def _of(source: Source, suite: str, metrics: Iterable[str]) -> list[Record]:
    wanted = set(metrics)
    return [r for r in source.results.records if r.suite == suite and r.metric in wanted]


def _datasets(groups: Iterable[list[Record]]) -> list[str]:
    return list(dict.fromkeys(r.dataset for group in groups for r in group))


def _series(source: Source, colour: int, points: list[tuple[float, Record]], **more: Any) -> Series:
    points = sorted(points, key=lambda p: p[0])
    intervals = [r.ci95 or (math.nan, math.nan) for _, r in points]
    return Series(
        more.pop("name", source.name),
        colour,
        [x for x, _ in points],
        [r.value for _, r in points],
        [low for low, _ in intervals],
        [high for _, high in intervals],
        **more,
    )


def shift_figure(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy on every shifted set against accuracy on the clean one."""
    series = []
    for colour, source in enumerate(sources):
        clean = _of(source, "clean", ACCURACIES)
        shifted = {r.dataset: r for r in reversed(_of(source, "shifts", ACCURACIES))}
        if clean and shifted:
            found = [(clean[0].value, r) for r in reversed(shifted.values())]
            series.append(_series(source, colour, found, labels=[r.dataset for _, r in found]))
    if not series:
        return []
    return [
        Chart(
            "accuracy_against_shift",
            "Accuracy under shift against clean accuracy",
            "points",
            series,
            "clean accuracy",
            "accuracy on the shifted set",
            percent=True,
            percent_x=True,
            diagonal=True,
            caption="One point for each shifted set; on the dashed line nothing is lost.",
        )
    ]


def robustness_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy against the size of the perturbation, one figure for each set, attack and norm."""
    groups = [_of(s, "attack", ACCURACIES) for s in sources]
    kinds = dict.fromkeys(
        (r.dataset, str(r.settings.get("attack", "")), str(r.settings.get("norm", "linf")))
        for group in groups
        for r in group
        if "epsilon" in r.settings
    )
    figures: list[Figure] = []
    for dataset, attack, norm in kinds:
        series = []
        for colour, group in enumerate(groups):
            mine = [r for r in group if r.dataset == dataset and "epsilon" in r.settings]
            mine = [r for r in mine if str(r.settings.get("attack", "")) == attack]
            mine = [r for r in mine if str(r.settings.get("norm", "linf")) == norm]
            points = _worst_by(mine, "epsilon")
            if points:
                scale = 255 if norm == "linf" else 1
                scaled = [(x * scale, r) for x, r in points]
                series.append(_series(sources[colour], colour, scaled))
        if max((len(s.x) for s in series), default=0) > 1:
            unit = "ε (in 1/255, L∞)" if norm == "linf" else f"ε ({norm})"
            figures.append(
                Chart(
                    _slug("robustness", dataset, attack, norm),
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
    groups = [[r for r in _of(s, "rotation", ACCURACIES) if "angle" in r.settings] for s in sources]
    figures: list[Figure] = []
    for dataset in _datasets(groups):
        series = [
            _series(s, c, [(float(r.settings["angle"]), r) for r in group if r.dataset == dataset])
            for c, (s, group) in enumerate(zip(sources, groups))
            if any(r.dataset == dataset for r in group)
        ]
        if max(len(s.x) for s in series) > 1:
            figures.append(
                Chart(
                    _slug("rotation", dataset),
                    f"Accuracy on turned pictures: {dataset}",
                    "line",
                    series,
                    "angle (degrees)",
                    "accuracy",
                    percent=True,
                )
            )
    return figures


def corruption_figures(sources: Sequence[Source]) -> list[Figure]:
    """Accuracy by corruption and severity, a heat map for each model and set."""
    figures: list[Figure] = []
    for source in sources:
        records = [
            r
            for r in _of(source, "corruptions", ACCURACIES)
            if {"corruption", "severity"} <= r.settings.keys()
        ]
        for dataset in _datasets([records]):
            mine = [r for r in records if r.dataset == dataset]
            rows = list(dict.fromkeys(str(r.settings["corruption"]) for r in mine))
            columns = sorted({r.settings["severity"] for r in mine})
            table = {(str(r.settings["corruption"]), r.settings["severity"]): r.value for r in mine}
            figures.append(
                Heatmap(
                    _slug("corruptions", source.name, dataset),
                    f"Accuracy (%) by corruption and severity: {source.name}",
                    [row.replace("_", " ") for row in rows],
                    [str(c) for c in columns],
                    [[table.get((row, c), math.nan) for c in columns] for row in rows],
                    caption=f"{dataset}; columns are severities.",
                )
            )
    return figures


def class_figures(sources: Sequence[Source]) -> list[Figure]:
    """Change of accuracy for each class from the first model to every other."""
    figures: list[Figure] = []
    first = sources[0].results.extra.get("per_class", {})
    for dataset in first:
        base = _class_accuracy(first[dataset])
        changes = []
        for colour, source in enumerate(sources[1:], start=1):
            mine = source.results.extra.get("per_class", {}).get(dataset)
            if mine:
                other = _class_accuracy(mine)
                common = {k: other[k] - base[k] for k in base if k in other}
                changes.append((colour, source, common))
        if not changes:
            continue
        ranked = sorted(changes[0][2], key=lambda k: changes[0][2][k])
        shown = ranked if len(ranked) <= 16 else [*ranked[:8], *ranked[-8:]]
        figures.append(
            Chart(
                _slug("classes", dataset),
                f"Change of accuracy by class: {dataset}",
                "bars",
                [
                    Series(s.name, c, range(len(shown)), [d.get(k, math.nan) for k in shown])
                    for c, s, d in changes
                ],
                "",
                f"change from {sources[0].name}",
                percent=True,
                categories=shown,
                caption="" if len(shown) == len(ranked) else "The eight worst and the eight best.",
                rule=0.0,
            )
        )
    return figures


def _class_accuracy(table: Mapping[str, Any]) -> dict[str, float]:
    rows = zip(table.get("names", []), table.get("correct", []), table.get("n", []))
    return {str(name): correct / n for name, correct, n in rows if n}


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
            figures.append(Chart(_slug("depth", region), title, "line", series, "depth", "score"))
    return figures


def region_figures(sources: Sequence[Source]) -> list[Figure]:
    """Brain scores by region; published rows from `extra["brain_reference"]` beside them."""
    groups = [
        [r for r in _of(s, "brain", ("ceiled", "ceiled_score", "score")) if "region" in r.settings]
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
            series.append(_series(source, colour, points))
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


def training(sources: Sequence[Source]) -> list[Figure]:
    """Curves of metrics.jsonl: one figure for each figure logged, most telling ones first."""
    names: dict[str, None] = {}
    for source in sources:
        for entry in source.history:
            names.update((k, None) for k, v in entry.items() if k not in _PLACES and _is_number(v))
    figures: list[Figure] = []
    for name in sorted(names, key=_rank):
        series = []
        for colour, source in enumerate(sources):
            for split in dict.fromkeys(e.get("split", "train") for e in source.history):
                points = [
                    (float(e.get("step", e.get("epoch", i))), float(e[name]))
                    for i, e in enumerate(source.history)
                    if e.get("split", "train") == split and _is_number(e.get(name))
                ]
                if points:
                    x, y = zip(*_thin(points))
                    label = f"{source.name}, {split}"
                    series.append(Series(label, colour, x, y, dashed=split == "train"))
        if series and any(len(s.x) > 1 for s in series):
            title = name.replace("_", " ").replace("/", ": ")
            figures.append(Chart(_slug("training", name), title, "line", series, "step"))
    return figures


_PLACES = {"step", "epoch", "split", "time", "seconds", "elapsed", "progress"}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _rank(name: str) -> tuple[int, str]:
    found = [i for i, word in enumerate(CURVES_FIRST) if word in name.lower()]
    return (found[0] if found else len(CURVES_FIRST), name)


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighbouring points of a long curve, so that a page stays small."""
    size = math.ceil(len(points) / LARGEST_CURVE)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _slug(*parts: str) -> str:
    text = "_".join(p for p in parts if p)
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text.lower())
