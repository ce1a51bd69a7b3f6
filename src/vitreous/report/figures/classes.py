"""Figures of classes: which are confused, and how well the worst are told."""

from __future__ import annotations

from collections.abc import Sequence

from vitreous.report.charts import Figure, Heatmap
from vitreous.report.figures.common import slug
from vitreous.report.predictions import confusion_matrix, prediction_tables
from vitreous.report.sources import Source

LARGEST = 16


def confusion_figures(sources: Sequence[Source]) -> list[Figure]:
    """Confusion matrices of sets with few classes, one for each model."""
    figures: list[Figure] = []
    for source in sources:
        for dataset, table in prediction_tables(source).items():
            labels, answers, shares = confusion_matrix(table)
            if 0 < len(answers) <= LARGEST:
                figures.append(
                    Heatmap(
                        slug("confusion", source.name, dataset),
                        f"Confusion on {dataset}: {source.name}",
                        [_short(name, 40) for name in labels],
                        [_short(name, 9) for name in answers],
                        shares,
                        caption="Rows: the class; columns: the answer. Percent of the row.",
                        label="share",
                    )
                )
    return figures


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
