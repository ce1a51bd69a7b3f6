"""Curves of metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitreous.report.charts import Chart, Figure, Series
from vitreous.report.figures.common import slug
from vitreous.report.sources import Source

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
        series = []
        for color, source in enumerate(sources):
            logged = [e for e in source.history if _is_number(e.get(name))]
            splits = list(dict.fromkeys(e.get("split", "train") for e in logged))
            for split in splits:
                points = [
                    (float(e.get("step", e.get("epoch", i))), float(e[name]))
                    for i, e in enumerate(logged)
                    if e.get("split", "train") == split
                ]
                if points:
                    x, y = zip(*_thin(points))
                    label = f"{source.name}, {split}"
                    dashed = split == "train" and len(splits) > 1
                    series.append(Series(label, color, x, y, dashed=dashed, group=source.name))
        if series and any(len(s.x) > 1 for s in series):
            title = name.replace("_", " ").replace("/", ": ")
            longest = max(len(s.history) for s in sources)
            parts = ["Dashed: training; solid: validation."] * any(s.dashed for s in series)
            parts += ["Long curves are averaged in pieces."] * (longest > LARGEST_CURVE)
            caption = " ".join(parts)
            key = slug("training", name)
            figures.append(Chart(key, title, "line", series, "step", caption=caption))
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
