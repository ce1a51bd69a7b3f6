"""The figures of a card, from records, `extra` and metrics.jsonl; none where nothing is known."""

from __future__ import annotations

from collections.abc import Sequence

from vitreous.report.charts import Figure
from vitreous.report.figures import accuracy, brain, classes, corruptions, evaluation
from vitreous.report.figures.training import training
from vitreous.report.sources import Source

__all__ = ["matrices", "measured", "training"]

matrices = brain.matrix_figures

MAKERS = (
    accuracy.shift_figure,
    accuracy.robustness_figures,
    accuracy.rotation_figures,
    corruptions.corruption_figures,
    *evaluation.MAKERS,
    classes.confusion_figures,
    brain.region_figures,
    brain.depth_figures,
)


def measured(sources: Sequence[Source]) -> list[Figure]:
    """All figures of measurements, in the order of the page."""
    return [figure for make in MAKERS for figure in make(sources)]
