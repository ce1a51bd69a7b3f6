"""Evaluate a classifier by a suite: everything that is there, what is missing named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitreous.errors import VitreousError
from vitreous.evaluation.comparison import comparison_records
from vitreous.evaluation.effective import effective_records
from vitreous.evaluation.explanation_records import explanation_records
from vitreous.evaluation.explanations import ExplanationSettings, measure_explanations
from vitreous.evaluation.prediction import (
    Predictions,
    StreamSettings,
    predictions,
    weights_fingerprint,
)
from vitreous.evaluation.processes import ALONE, Processes
from vitreous.evaluation.records import (
    accuracy_records,
    corruption_records,
    corruption_table,
    curve_records,
    entry_of,
    shape_bias_records,
)
from vitreous.evaluation.samples import write_samples
from vitreous.evaluation.suites import Suite, source_of
from vitreous.evaluation.test_sets import TestSet
from vitreous.models import Classifier
from vitreous.results import Record


@dataclasses.dataclass
class Evaluation:
    """What came of a suite.

    Attributes:
        records: The numbers.
        entries: Set → its entry of `Results.extra["evaluation"]`.
        problems: What was not measured, and why.
        found: (set, part, change) → answers, for comparisons.
    """

    records: list[Record] = dataclasses.field(default_factory=list)
    entries: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)
    found: dict[str, Predictions] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where things are and go.

    Attributes:
        root: Folder below which sets are looked for.
        out: Folder of `results.json`, rows and pictures.
        samples: How many best and worst pictures of a set are written.
    """

    root: Path | None
    out: Path
    samples: int = 6


def evaluate(
    classifier: Classifier,
    suite: Suite,
    place: Place,
    *,
    sets: Sequence[TestSet] = (),
    streaming: StreamSettings | None = None,
    explaining: ExplanationSettings | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Evaluate a classifier.

    A set that is missing, has a wrong layout or does not fit the model is reported among the
    problems; the others are measured.

    Args:
        classifier: The model.
        suite: What to measure.
        place: Where sets are, and where rows and pictures go.
        sets: More test sets, read already.
        streaming: How pictures are streamed.
        explaining: How explanations are measured; methods come from the suite.
        processes: Which of several processes this is; pictures are written by the first.

    Raises:
        VitreousError: If nothing could be measured; the message is the first problem.
    """
    streaming = streaming or StreamSettings()
    done = Evaluation()
    weights = weights_fingerprint(classifier)

    def answer(test_set: TestSet, change: Any = None) -> Predictions:
        settings = change.settings() if change is not None else {}
        found = predictions(
            classifier,
            test_set,
            place.out / "predictions",
            streaming=streaming,
            change=change,
            change_settings=settings,
            weights=weights,
            processes=processes,
        )
        done.found[repr([test_set.name, test_set.settings, settings])] = found
        return found

    groups = _read_sets(suite, place, done, sets)
    some_clean = any(parts[0].suite == "clean" for parts in groups)
    for parts in groups:
        try:
            for part in parts:
                part.check(classifier.num_classes or part.num_classes, classifier.name)
            answers = [answer(part) for part in parts]
            whole = len(parts) == 1 and (parts[0].suite == "clean" or not some_clean)
            changed = [answer(parts[0], change) for change in suite.changes()] if whole else []
        except VitreousError as error:
            done.problems.append(str(error))
            continue
        _collect(classifier, done, answers, changed, streaming, place, processes)
    _effective(done)
    _explanations(
        classifier, suite, place, done, explaining or ExplanationSettings(), weights, processes
    )
    if not done.records:
        raise VitreousError(done.problems[0] if done.problems else "the suite is empty")
    return done


def _read_sets(
    suite: Suite, place: Place, done: Evaluation, sets: Sequence[TestSet]
) -> list[list[TestSet]]:
    groups = [[one] for one in sets]
    for wanted in suite.sets:
        path = wanted.find(place.root)
        if path is None:
            where = wanted.path or place.root or "no --root"
            done.problems.append(
                f"{wanted.name} is missing ({where}); it comes from {source_of(wanted.name)}"
            )
            continue
        try:
            groups.append(wanted.read(path))
        except VitreousError as error:
            done.problems.append(str(error))
    return groups


def _collect(
    classifier: Classifier,
    done: Evaluation,
    answers: list[Predictions],
    changed: list[Predictions],
    streaming: StreamSettings,
    place: Place,
    processes: Processes,
) -> None:
    first = answers[0]
    named: dict[str, Any] = {}
    if streaming.preprocessing is not None:
        view = streaming.preprocessing
        shape = f"{view.size[0]}×{view.size[1]}, {view.crop_ratio:g}, {view.interpolation}"
        named["preprocessing"] = f"{shape}, {view.crop_mode}"
    entry = entry_of(first)
    for found in answers:
        done.records += accuracy_records(found, named)
    if "corruption" in first.test_set.settings:
        done.records += corruption_records(answers)
        entry["corruptions"] = corruption_table(answers)
    for records, more in (shape_bias_records(first), curve_records(first, changed)):
        done.records += records
        entry.update(more)
    if processes.main and place.samples:
        entry.update(write_samples(classifier, first, place.out, place.samples))
    done.entries[first.test_set.name] = entry


def _effective(done: Evaluation) -> None:
    plain = [f for f in done.found.values() if not f.change]
    home = next((f for f in plain if f.test_set.name == "imagenet-val"), None)
    if home is None:
        return
    records, entries = effective_records(home, plain)
    done.records += records
    for name, entry in entries.items():
        done.entries[name]["effective_robustness"] = entry


def _explanations(
    classifier: Classifier,
    suite: Suite,
    place: Place,
    done: Evaluation,
    explaining: ExplanationSettings,
    weights: str,
    processes: Processes,
) -> None:
    explaining = dataclasses.replace(explaining, methods=suite.methods, removal=suite.removal)
    for wanted in suite.masked:
        path = wanted.find(place.root)
        if path is None:
            done.problems.append(
                f"{wanted.name} is missing ({wanted.path or place.root or 'no --root'}); it comes "
                f"from {source_of(wanted.name)}"
            )
            continue
        try:
            found = measure_explanations(
                classifier,
                wanted.read(path, tuple(classifier.class_names)),
                wanted.name,
                place.out / "predictions",
                explaining=explaining,
                weights=weights,
                processes=processes,
            )
        except VitreousError as error:
            done.problems.append(f"{wanted.name}: {error}")
            continue
        records, entry = explanation_records(found)
        done.records += records
        before = done.entries.get(wanted.name, {})
        curves = {k: entry[k] for k in ("explanations", "unsupported") if k in entry}
        done.entries[wanted.name] = {**entry, **before, **curves}
        done.problems += [f"{m} was left out: {why}" for m, why in found.unsupported.items()]


def compare(first: Evaluation, second: Evaluation, against: str) -> list[Record]:
    """Compare two models on every set that both have answered."""
    return [
        record
        for key, found in second.found.items()
        if key in first.found
        for record in comparison_records(first.found[key], found, against)
    ]
