"""From rows to records and to the entries of `Results.extra["evaluation"]`."""

from __future__ import annotations

import dataclasses
from typing import TypedDict

import numpy as np

from vitreous.evaluation.metrics import (
    calibration,
    calibration_interval,
    class_mean_interval,
    standard_interval,
)
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.rows import NOT_FINITE, READ, UNREADABLE
from vitreous.evaluation.test_sets import TestSet
from vitreous.models import Classifier
from vitreous.models.class_words import class_words
from vitreous.results import Record, accuracy_record, wilson_interval

NAMED_FILES = 100


def accuracy_records(predictions: Predictions) -> list[Record]:
    """Top-1 and top-5 under each convention, and under the first: by class, NLL, ECE, unreadable.

    Images that could not be read, or whose logits were not finite, count as wrong. NLL and ECE
    are over the others.

    Args:
        predictions: The answers on one set, as it is or perturbed.
    """
    test_set, records = predictions.test_set, []
    for i, convention in enumerate(predictions.conventions):
        counted = predictions.counted_by(i)
        n = int(counted.sum())
        if i and not n:
            continue
        settings: dict[str, object] = {"convention": convention.name, **test_set.settings}
        settings |= predictions.condition
        suite, name = test_set.suite, test_set.name
        for top in (1, 5) if convention.groups is None else (1,):
            right = int((predictions.correct(i, top) & counted).sum())
            records.append(accuracy_record(suite, name, f"top{top}", right, n, **settings))
        if i == 0:
            records += _headline_records(predictions, settings) + _group_records(
                predictions, settings
            )
    return records


def _group_records(predictions: Predictions, settings: dict[str, object]) -> list[Record]:
    """Top-1 of each group of images, and of the worst one."""
    dataset, settings = predictions.dataset, {**settings, **predictions.test_set.grouping}
    if dataset.groups is None:
        return []
    groups = dataset.groups[predictions.rows["index"]]
    right, records = predictions.correct(), []
    suite, name = predictions.test_set.suite, predictions.test_set.name
    for group in np.unique(groups[predictions.counted & (groups >= 0)]).tolist():
        where = predictions.counted & (groups == group)
        named = dataset.group_names[group] if group < len(dataset.group_names) else str(group)
        counts = (int(right[where].sum()), int(where.sum()))
        records.append(accuracy_record(suite, name, "group_top1", *counts, group=named, **settings))
    if records:
        worst = min(records, key=lambda record: record.value)
        # Which group it is depends on the answers, so that it does not tell measurements apart.
        records.append(dataclasses.replace(worst, metric="worst_group_top1", settings=settings))
    return records


def _headline_records(predictions: Predictions, settings: dict[str, object]) -> list[Record]:
    test_set, counted = predictions.test_set, predictions.counted
    suite, name = test_set.suite, test_set.name
    read = counted & (predictions.rows["status"] == READ)
    status = predictions.rows["status"]
    bad, odd = int((status == UNREADABLE).sum()), int((status == NOT_FINITE).sum())
    records = [Record(suite, name, "unreadable", bad, len(status), None, settings)]
    if odd:
        records.append(Record(suite, name, "not_finite", odd, len(status), None, settings))
    if counted.any():
        right, total = by_target(predictions)
        mean = float((right[total > 0] / total[total > 0]).mean())
        n, interval = int(counted.sum()), class_mean_interval(right, total)
        records.append(Record(suite, name, "class_mean_top1", mean, n, interval, settings))
    nll = predictions.rows["nll"][read].astype(np.float64)
    if len(nll) and np.isfinite(nll).all():
        mean, interval = float(nll.mean()), standard_interval(nll)
        records.append(Record(suite, name, "nll", mean, len(nll), interval, settings))
    if read.any():
        sure, right = predictions.rows["confidence"][read], predictions.correct()[read]
        error, interval = calibration(sure, right).error, calibration_interval(sure, right)
        records.append(Record(suite, name, "ece", error, len(nll), interval, settings))
    return records


def target_names(test_set: TestSet) -> tuple[str, ...]:
    """A name for each target of a set, in words: its number where there is no name."""
    names = test_set.target_names or tuple(map(str, range(len(test_set.accepted))))
    return tuple(map(class_words, names))


def answer_name(classifier: Classifier, answers: Predictions, prediction: int) -> str:
    """What an answer under the first convention is called: a group of the set, or a class."""
    if answers.conventions[0].groups is not None:
        return target_names(answers.test_set)[prediction]
    return classifier.class_name(prediction)


def by_target(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Count right answers and images of each target, under the first convention."""
    targets = predictions.test_set.targets[predictions.rows["index"]][predictions.counted]
    length = len(predictions.test_set.accepted)
    right = np.bincount(targets[predictions.correct()[predictions.counted]], minlength=length)
    return right, np.bincount(targets, minlength=length)


def shape_bias_records(predictions: Predictions) -> tuple[list[Record], dict[str, object]]:
    """Shape bias: of the answers that are the shape or the texture, the share of shape.

    Geirhos et al. 2019: ImageNet-trained CNNs are biased towards texture.
    """
    test_set = predictions.test_set
    if test_set.second is None:
        return [], {}
    answers = predictions.rows["prediction0"]
    shapes = test_set.targets[predictions.rows["index"]]
    textures = test_set.second[predictions.rows["index"]]
    shape, texture = answers == shapes, answers == textures
    decided = int((shape | texture).sum())
    settings = {"convention": predictions.conventions[0].name}
    record = accuracy_record(
        test_set.suite, test_set.name, "shape_bias", int(shape.sum()), decided, **settings
    )

    def count(where: np.ndarray) -> list[int]:
        return np.bincount(shapes[where], minlength=len(test_set.target_names)).tolist()

    table = {
        "category": list(test_set.target_names),
        "shape": count(shape),
        "texture": count(texture),
        "other": count(~shape & ~texture),
    }
    return [record], {"shape_bias": table}


class Curve:
    """Accuracy along something that varies, with Wilson intervals.

    Args:
        *names: What varies, and what else is said of each point.
    """

    def __init__(self, *names: str):
        self.names = names
        self.columns: dict[str, list[float | str | None]] = {
            k: [] for k in ("top1", "low", "high", "n", *names)
        }

    def add(self, right: int, n: int, *values: float | str | None) -> None:
        """Add a point: `right` of `n`, and a value for each name."""
        low, high = wilson_interval(right, n)
        point = {"top1": right / max(n, 1), "low": low, "high": high, "n": n}
        for key, value in {**point, **dict(zip(self.names, values))}.items():
            self.columns[key].append(value)


class FactorTable(TypedDict):
    """Accuracy by the value of what a generated set varies; columns as of `Curve`."""

    name: str
    value: list[float | str | None]
    top1: list[float | str | None]
    low: list[float | str | None]
    high: list[float | str | None]
    n: list[float | str | None]


def factor_tables(predictions: Predictions) -> list[FactorTable]:
    """Accuracy for each value of what a generated set varies, with Wilson intervals."""
    tables: list[FactorTable] = []
    for name, values in predictions.test_set.factors.items():
        own, right, curve = values[predictions.rows["index"]], predictions.correct(), Curve("value")
        for value in sorted(set(own.tolist()), key=_number):
            where = own == value
            shown = _number(value)[1] if _number(value)[0] == 0 else value
            curve.add(int(right[where].sum()), int(where.sum()), shown)
        value, columns = curve.columns["value"], curve.columns
        tables.append(
            FactorTable(
                name=name,
                value=value,
                top1=columns["top1"],
                low=columns["low"],
                high=columns["high"],
                n=columns["n"],
            )
        )
    return tables


def _number(text: str) -> tuple[int, float, str]:
    """Sort numbers by value and before other text."""
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text)


def entry_of(predictions: Predictions) -> dict[str, object]:
    """The entry of one set in `Results.extra`, without images and curves."""
    test_set, rows = predictions.test_set, predictions.rows
    counted = predictions.counted & (rows["status"] == READ)
    right, total = by_target(predictions)
    shown = np.flatnonzero(total)
    names = target_names(test_set)
    bad = rows["index"][rows["status"] == UNREADABLE]
    odd = rows["index"][rows["status"] == NOT_FINITE]
    curve = calibration(rows["confidence"][counted], predictions.correct()[counted])
    entry: dict[str, object] = {
        "source": test_set.source,
        "settings": {**test_set.reading},
        "n": len(rows),
        "preprocessing": predictions.preprocessing.described(),
        "convention": predictions.conventions[0].name,
        "unreadable": {
            "count": len(bad),
            "files": [
                {
                    "file": test_set.dataset.name(int(i)),
                    "reason": predictions.reasons.get(int(i), "it cannot be read"),
                }
                for i in bad[:NAMED_FILES]
            ],
        },
        "not_finite": {
            "count": len(odd),
            "files": [test_set.dataset.name(int(i)) for i in odd[:NAMED_FILES]],
        },
        "left_out": [str(passed) for passed in test_set.dataset.left_out],
        "per_class": {
            "class": shown.tolist(),
            "name": [names[i] for i in shown],
            "n": total[shown].tolist(),
            "correct": right[shown].tolist(),
        },
        "calibration": {
            key: getattr(curve, key).tolist() for key in ("edges", "n", "confidence", "accuracy")
        },
    }
    if tables := factor_tables(predictions):
        entry["factors"] = max(tables, key=lambda table: len(table["value"]))
        entry["all_factors"] = tables
    return entry
