"""From rows of explanations to records, with bootstrap intervals over pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from vitreous.evaluation.explanations import Explained
from vitreous.evaluation.pixel_removal import FRACTIONS, removal_area
from vitreous.evaluation.scoring import READ
from vitreous.evaluation.segmentation import scores_of_counts
from vitreous.results import Record

DRAWS = 1000


def explanation_records(found: Explained) -> tuple[list[Record], dict[str, Any]]:
    """Records of every method, and the entry of `Results.extra`.

    Metrics: `pixel_accuracy`, `mean_iou`, `mean_ap` (the ImageNet-Segmentation protocol),
    `pointing_game`, `foreground_share`, and, where pixels were removed, `positive_area` (low is
    good) and `negative_area` (high is good), in percent. Intervals are percentile bootstraps
    over pictures.
    """
    rows = found.rows[found.rows["status"] == READ]
    weights = _draws(len(rows))
    records, curves = [], {}
    for method in found.methods:
        own = rows[method]
        for metric, (value, interval, n) in _measures(own, weights, found.removal).items():
            settings = {"method": method}
            records.append(Record("explanation", found.name, metric, value, n, interval, settings))
        constant = int(own["constant"].sum())
        records.append(
            Record(
                "explanation",
                found.name,
                "constant_maps",
                constant,
                len(own),
                None,
                {"method": method},
            )
        )
        if found.removal:
            means = own["removal"].mean(0)
            curves[method] = {
                "fraction": [0.0, *FRACTIONS],
                "positive": means[0].tolist(),
                "negative": means[1].tolist(),
            }
    return records, _entry(found, curves)


def _entry(found: Explained, curves: dict[str, Any]) -> dict[str, Any]:
    bad = found.rows["index"][found.rows["status"] != READ]
    labelled = bool((found.rows["label"][found.rows["status"] == READ] >= 0).all())
    entry: dict[str, Any] = {
        "source": found.name,
        "n": len(found.rows),
        "preprocessing": dataclasses.asdict(found.preprocessing),
        "convention": "removal is scored against "
        + ("the label" if labelled else "the label, or the own prediction where there is none"),
        "unreadable": {
            "count": len(bad),
            "files": [
                {"file": found.names.get(i, str(i)), "reason": found.reasons.get(i, "")}
                for i in bad[:100].tolist()
            ],
        },
    }
    if found.unsupported:
        entry["unsupported"] = found.unsupported
    return {**entry, **({"explanations": curves} if curves else {})}


def _measures(
    own: np.ndarray, weights: np.ndarray, removal: bool
) -> dict[str, tuple[float, tuple[float, float], int]]:
    """Value, interval and n of each metric."""
    measured = {}
    count = weights.sum(1)
    spread = scores_of_counts(weights @ own["counts"], weights @ own["average_precision"] / count)
    whole = scores_of_counts(own["counts"].sum(0), own["average_precision"].mean())
    for name, value in whole.items():
        measured[name] = (float(value), _interval(spread[name]), len(own))
    for name, column in (("pointing_game", "pointing"), ("foreground_share", "share")):
        known = np.isfinite(own[column])
        if known.any():
            values, among = own[column][known], weights[:, known]
            means = among @ values / np.maximum(among.sum(1), 1)
            measured[name] = (float(values.mean()), _interval(means), int(known.sum()))
    if removal:
        for place, name in enumerate(("positive_area", "negative_area")):
            areas = np.array([removal_area(row) for row in own["removal"][:, place].astype(float)])
            measured[name] = (
                float(areas.mean()),
                _interval(weights @ areas / count),
                len(own),
            )
    return measured


def _draws(n: int, seed: int = 0) -> np.ndarray:
    """(draws, N): how often each picture is in each bootstrap sample."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
