"""Two models on the same images: the difference with its interval, and how far they agree."""

from __future__ import annotations

import numpy as np

from vitreous.evaluation.predictions import Predictions
from vitreous.results import Record, accuracy_record
from vitreous.statistics import cohens_kappa, kappa_interval, paired_interval


def comparison_records(first: Predictions, second: Predictions, against: str) -> list[Record]:
    """Compare a model with a first one.

    Args:
        first: Answers of the model that is compared with.
        second: Answers of the model that the records belong to.
        against: Name of the first model.

    Returns:
        `top1_difference` (second − first) with a paired interval, `agreement` (the same
        prediction) and `error_consistency` (Cohen's kappa of being right), over the images that
        both have.
    """
    _, a, b = np.intersect1d(first.rows["index"], second.rows["index"], return_indices=True)
    kept = first.counted[a]
    a, b = a[kept], b[kept]
    if not len(a):
        return []
    settings: dict[str, object] = {
        "against": against,
        "convention": second.conventions[0].name,
        **second.test_set.settings,
        **second.condition,
    }
    right, other = first.correct()[a], second.correct()[b]
    same = int((first.rows["prediction0"][a] == second.rows["prediction0"][b]).sum())
    difference = float(other.mean() - right.mean())
    name, n = second.test_set.name, len(a)
    interval = paired_interval(int((other & ~right).sum()), int((right & ~other).sum()), n)
    kappa, bounds = cohens_kappa(right, other), kappa_interval(right, other)
    return [
        Record("comparison", name, "top1_difference", difference, n, interval, settings),
        accuracy_record("comparison", name, "agreement", same, n, **settings),
        Record("comparison", name, "error_consistency", kappa, n, bounds, settings),
    ]
