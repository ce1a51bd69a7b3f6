"""Curves of metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitreous.report.charts import Chart, Figure, Series
from vitreous.report.figures.common import slug
from vitreous.report.sources import Source, Table

LARGEST_CURVE = 200
CURVES_FIRST = ("loss", "top1", "accuracy", "pgd", "robust", "foreground")


def training(sources: Sequence[Source]) -> list[Figure]:
    """Curves of metrics.jsonl: one figure for each figure logged, most telling ones first."""
    names: dict[str, None] = {}
    for source in sources:
        for entry in source.history:
            names.update((k, None) for k, v in entry.items() if k not in _PLACES and _is_number(v))
    figures: list[Figure] = []
    for name in sorted(names, key=_rank):
        parts = _comparable(sources) if name == "loss" else [list(range(len(sources)))]
        for place, members in enumerate(parts):
            key = slug("training", name, str(place + 1) if place else "")
            if (chart := _curve(sources, members, name, key, len(parts) > 1)) is not None:
                figures.append(chart)
    return figures


def _comparable(sources: Sequence[Source]) -> list[list[int]]:
    """Places of the models whose losses are sums of the same objectives: these share an axis."""
    groups: dict[str, list[int]] = {}
    for place, source in enumerate(sources):
        groups.setdefault(_objectives(source), []).append(place)
    return list(groups.values())


def _objectives(source: Source) -> str:
    """Objectives and weights of a run; a run that does not say them is like no other."""
    recipe = source.results.context.get("recipe")
    objectives = recipe.get("objectives") if isinstance(recipe, dict) else None
    if not isinstance(objectives, dict):
        return f"? {source.name}"
    weights = [(k, v.get("weight", 1) if isinstance(v, dict) else v) for k, v in objectives.items()]
    return " + ".join(f"{w:g} · {k}" if isinstance(w, (int, float)) else k for k, w in weights)


def _curve(
    sources: Sequence[Source], members: Sequence[int], name: str, key: str, apart: bool
) -> Chart | None:
    """Curves of one figure that was logged, of some of the models."""
    series: list[Series] = []
    for color in members:
        logged = [e for e in sources[color].history if _is_number(e.get(name))]
        series += _splits(sources[color], color, name, logged)
    if not any(len(s.x) > 1 for s in series):
        return None
    longest = max(len(sources[c].history) for c in members)
    remarks = ["Dashed: training; solid: validation."] * any(s.dashed for s in series)
    remarks += ["Long curves are averaged in pieces."] * (longest > LARGEST_CURVE)
    title = name.replace("_", " ").replace("/", ": ")
    if apart:
        objectives = _objectives(sources[members[0]])
        title += ": " + (sources[members[0]].name if "?" in objectives else objectives)
        remarks.append("Losses of other objectives are other sums and have axes of their own.")
    return Chart(key, title, "line", series, "step", caption=" ".join(remarks))


def _splits(source: Source, color: int, name: str, logged: Sequence[Table]) -> list[Series]:
    """A curve for training and one for validation, where both are known."""
    splits = list(dict.fromkeys(str(e.get("split", "train")) for e in logged))
    curves = []
    for split in splits:
        points = [
            (float(e.get("step", e.get("epoch", i))), float(e[name]), *_ends(e, name))
            for i, e in enumerate(logged)
            if str(e.get("split", "train")) == split
        ]
        x, y, low, high = zip(*_thin(points))
        dashed = split == "train" and len(splits) > 1
        label = f"{source.name}, {split}"
        curves.append(Series(label, color, x, y, low, high, dashed=dashed, group=source.name))
    return curves


def _ends(entry: Table, name: str) -> tuple[float, float]:
    """The interval of a figure that was logged; NaN where there is none."""
    intervals = entry.get("ci95")
    ends = intervals.get(name) if isinstance(intervals, dict) else None
    return (float(ends[0]), float(ends[1])) if ends else (math.nan, math.nan)


_PLACES = {"step", "epoch", "split", "time", "seconds", "elapsed", "progress"}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _rank(name: str) -> tuple[int, str]:
    found = [i for i, word in enumerate(CURVES_FIRST) if word in name.lower()]
    return (found[0] if found else len(CURVES_FIRST), name)


def _thin(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Average neighbouring points of a long curve, so that a page stays small."""
    size = math.ceil(len(points) / LARGEST_CURVE)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [tuple(sum(column) / len(group) for column in zip(*group)) for group in groups]
