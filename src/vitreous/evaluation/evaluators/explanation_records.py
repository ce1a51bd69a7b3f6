"""From rows of explanations to records, with bootstrap intervals over images."""

from __future__ import annotations

import numpy as np

from vitreous.evaluation.metrics import bootstrap_counts, mean_interval, percentiles
from vitreous.evaluation.pixel_removal import FRACTIONS, removal_area
from vitreous.evaluation.rows import READ
from vitreous.evaluation.segmentation import scores_of_counts
from vitreous.results import Record

AREAS = ("positive_area", "negative_area")
METHOD_TYPE = np.dtype(
    [
        ("counts", "i8", (6,)),
        ("average_precision", "f8"),
        ("pointing", "f8"),
        ("share", "f8"),
        ("constant", "?"),
        ("removal", "?", (2, 1 + len(FRACTIONS))),
    ]
)


def explanation_records(
    rows: np.ndarray, dataset: str, methods: tuple[str, ...], removal: bool, tolerance: int
) -> list[Record]:
    """Records of every method.

    Metrics: `pixel_accuracy`, `mean_iou`, `mean_ap` (the ImageNet-Segmentation protocol),
    `pointing_game`, `foreground_share`, `constant_maps`, and, where pixels were removed,
    `positive_area` (low is good) and `negative_area` (high is good), in percent. Intervals are
    percentile bootstraps over images.

    The areas say in the setting `scored_against` what counts as right after removal: the label, the
    model's own prediction, or this where an image has no label.

    Args:
        rows: See `Explanation.row_type`.
        dataset: How records call what was explained.
        methods: Relevance methods that the rows hold.
        removal: Whether pixels were removed.
        tolerance: Of the pointing game, in pixels.
    """
    rows = rows[rows["status"] == READ]
    weights, records = bootstrap_counts(len(rows)), []
    for method in methods:
        own = rows[method]
        for metric, (value, interval, n) in _measures(own, weights, removal).items():
            settings: dict[str, object] = {"method": method}
            if metric == "pointing_game":
                settings["tolerance"] = tolerance
            if metric in AREAS:
                settings["scored_against"] = scored_against(rows)
            records.append(Record("explanation", dataset, metric, value, n, interval, settings))
        constant = int(own["constant"].sum())
        records.append(
            Record(
                "explanation",
                dataset,
                "constant_maps",
                constant,
                len(own),
                None,
                {"method": method},
            )
        )
    return records


def scored_against(rows: np.ndarray) -> str:
    """What counts as right after removal, for settings of records."""
    labelled = rows["label"][rows["status"] == READ] >= 0
    if labelled.all():
        return "label"
    return "label, else own prediction" if labelled.any() else "own prediction"


def removal_curves(rows: np.ndarray, methods: tuple[str, ...]) -> dict[str, dict[str, object]]:
    """Method → accuracy over the share of removed pixels, as `vitreous.evaluation` describes it."""
    rows = rows[rows["status"] == READ]
    curves: dict[str, dict[str, object]] = {}
    for method in methods:
        positive, negative = rows[method]["removal"].mean(0)
        curves[method] = {
            "fraction": [0.0, *FRACTIONS],
            "positive": positive.tolist(),
            "negative": negative.tolist(),
            "n": [len(rows)] * len(positive),
        }
    return curves


def _measures(
    own: np.ndarray, weights: np.ndarray, removal: bool
) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    """Value, interval and n of each metric; one image alone has no spread and no interval."""
    measured: dict[str, tuple[float, tuple[float, float] | None, int]] = {}
    count, several = weights.sum(1), len(own) > 1
    spread = scores_of_counts(weights @ own["counts"], weights @ own["average_precision"] / count)
    whole = scores_of_counts(own["counts"].sum(0), own["average_precision"].mean())
    for name, value in whole.items():
        measured[name] = (float(value), percentiles(spread[name]) if several else None, len(own))
    for name, column in (("pointing_game", "pointing"), ("foreground_share", "share")):
        known = np.isfinite(own[column])
        if known.any():
            values = own[column][known]
            measured[name] = (float(values.mean()), mean_interval(values), len(values))
    if removal:
        top = removal_area(np.ones(1 + len(FRACTIONS)))
        for place, name in enumerate(AREAS):
            areas = np.array([removal_area(row) for row in own["removal"][:, place].astype(float)])
            measured[name] = (float(areas.mean()), mean_interval(areas, top=top), len(own))
    return measured
