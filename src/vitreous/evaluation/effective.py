"""Effective robustness: accuracy on a shift beyond what accuracy at home lets one expect."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from typing import TypedDict

import numpy as np

from vitreous.evaluation.metrics import effective_interval, effective_robustness, fit_line
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.test_sets.imagenet import home_convention
from vitreous.io import read_json
from vitreous.results import Record

LEAST_X = 0.55


class Testbed(TypedDict):
    """Published accuracies: `models` has a row of `columns` for each, `shifts` two of them."""

    source: str
    columns: list[str]
    shifts: dict[str, list[str]]
    models: dict[str, list[float | None]]


@functools.cache
def published_accuracies() -> Testbed:
    """Published accuracies of the ImageNet testbed's models of standard training, with source."""
    place = resources.files("vitreous.evaluation") / "facts" / "testbed.json"
    with resources.as_file(place) as file:
        return read_json(file)


def published_line(shift: str) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Points (accuracy at home, accuracy on the shift) of the testbed, and the line through them.

    As in Taori et al. 2020: models of standard training with more than 55 % at home, least
    squares between logits. For -A, -R and ObjectNet home is ImageNet's validation set on the
    classes of the shift.

    Args:
        shift: Name of the set, one of `published_accuracies()["shifts"]`.
    """
    facts = published_accuracies()
    x, y = (facts["columns"].index(c) for c in facts["shifts"][shift])
    points = [
        (at_home, on_shift)
        for row in facts["models"].values()
        if (at_home := row[x]) is not None
        and (on_shift := row[y]) is not None
        and at_home >= LEAST_X
    ]
    table = np.array(points)
    return points, fit_line(table[:, 0], table[:, 1])


def effective_records(
    home: Predictions, shifts: Sequence[Predictions]
) -> tuple[list[Record], dict[str, dict[str, object]]]:
    """Effective robustness on every shift that the testbed has a line for.

    Home is ImageNet's validation set. For -A, -R and ObjectNet only its images of the classes of
    the shift count, and on both axes the decision is among these.

    Returns:
        Records (suite `shifts`, metric `effective_robustness`), and for each set the entry
        `effective_robustness` of `Results.extra`.
    """
    records, entries = [], {}
    for shift in shifts:
        name = shift.test_set.name
        if name not in published_accuracies()["shifts"]:
            continue
        places = [_convention(predictions, name) for predictions in (home, shift)]
        at_home, on_shift = map(_count, (home, shift), places)
        if not at_home[1] or not on_shift[1]:
            continue
        x, y = at_home[0] / at_home[1], on_shift[0] / on_shift[1]
        points, line = published_line(name)
        value = effective_robustness(x, y, line)
        interval = effective_interval(at_home, on_shift, line)
        home_name, shift_name = (p.conventions[i].name for p, i in zip((home, shift), places))
        settings: dict[str, object] = {"convention": shift_name, "home": home_name}
        records.append(
            Record("shifts", name, "effective_robustness", value, on_shift[1], interval, settings)
        )
        axes = published_accuracies()["shifts"][name]
        listed = {"points": [list(p) for p in points], "line": list(line), "model": [x, y]}
        listed["n"] = [at_home[1], on_shift[1]]
        entries[name] = {"x": axes[0], "y": axes[1], **listed}
    return records, entries


def _convention(predictions: Predictions, shift: str) -> int:
    """Which rule decides among the classes among which the testbed's line decides for a shift."""
    wanted = home_convention(shift).classes
    fitting = (i for i, c in enumerate(predictions.conventions) if c.classes == wanted)
    return next(fitting, 0)


def _count(predictions: Predictions, convention: int) -> tuple[int, int]:
    """How many images are right, and how many count."""
    counted = predictions.counted_by(convention)
    return int(predictions.correct(convention)[counted].sum()), int(counted.sum())
