"""Classes of a test set: the worst ones, and what they are taken for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vitreous.models.class_words import class_words
from vitreous.report.predictions import confusions, prediction_tables
from vitreous.report.sources import Source
from vitreous.report.values import Value
from vitreous.results import wilson_interval

WORST = 8


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """What is told of the classes of one set, for one model.

    Attributes:
        place: Of the model among the sources.
        dataset: The set.
        classes: How many classes have images.
        worst: Name and accuracy of the worst ones.
        confused: Label, prediction, how often and of how many, most frequent first.
    """

    place: int
    dataset: str
    classes: int
    worst: Sequence[tuple[str, Value]]
    confused: Sequence[tuple[str, str, int, int]]


def class_tables(sources: Sequence[Source]) -> list[ClassTable]:
    """A table for every model and set that has accuracies by class or predictions."""
    tables = []
    for place, source in enumerate(sources):
        answers = prediction_tables(source)
        evaluated = source.results.extra.get("evaluation", {})
        for dataset in dict.fromkeys([*evaluated, *answers]):
            rows = _worst(evaluated.get(dataset, {}).get("per_class") or {})
            confused = confusions(answers[dataset]) if dataset in answers else []
            if rows or confused:
                tables.append(ClassTable(place, dataset, len(rows), rows[:WORST], confused))
    return tables


def _worst(table: dict[str, list]) -> list[tuple[str, Value]]:
    columns = zip(table.get("name", ()), table.get("correct", ()), table.get("n", ()))
    rows = [
        (class_words(str(name)), Value(correct / n, wilson_interval(correct, n), n))
        for name, correct, n in columns
        if n
    ]
    return sorted(rows, key=lambda row: row[1].value)
