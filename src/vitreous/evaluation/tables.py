"""What was predicted of each image, for the user: tables beside the rows."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from vitreous.errors import require
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.records import answer_name, by_target, target_names
from vitreous.evaluation.rows import READ
from vitreous.io import atomic_path, write_csv
from vitreous.models import Classifier
from vitreous.results import wilson_interval

COLUMNS = (
    "file",
    "group",
    "label",
    "prediction",
    "probability",
    "correct",
    "foreground_share",
)
CHUNK = 10_000
UNREAD = "(not read)"


def write_tables(
    classifier: Classifier, answers: Predictions, shares: Mapping[str, float] | None = None
) -> Path | None:
    """Write `predictions.csv`, `per_class.csv` and `confusion.csv` beside the rows.

    With pyarrow (extra `tables`), `predictions.parquet` too. Answers on a part of a set leave the
    tables of more of it as they are.

    Args:
        classifier: Gives names of classes.
        answers: The rows.
        shares: Name of an image → share of the relevance on its foreground.

    Returns:
        The folder; None where rows are kept nowhere.
    """
    folder = answers.folder
    if folder is None or not len(answers.rows):
        return None
    if len(answers.rows) < len(answers.dataset) and _rows_of(folder) > len(answers.rows):
        return folder
    known = shares or {}
    write_csv(folder / "predictions.csv", COLUMNS, prediction_rows(classifier, answers, known))
    write_csv(folder / "per_class.csv", CLASS_COLUMNS, class_rows(answers))
    header, rows = confusion(classifier, answers)
    write_csv(folder / "confusion.csv", header, rows)
    if importlib.util.find_spec("pyarrow"):
        _write_parquet(folder / "predictions.parquet", classifier, answers, known)
    return folder


def _rows_of(folder: Path) -> int:
    """Rows of the table that a folder holds; none where there is none."""
    path = folder / "predictions.csv"
    if not path.is_file():
        return 0
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        return max(0, sum(1 for _ in csv.reader(opened)) - 1)


def prediction_rows(
    classifier: Classifier, answers: Predictions, shares: Mapping[str, float]
) -> Iterator[tuple[object, ...]]:
    """One row of `COLUMNS` for each image; what is not known is None."""
    dataset, targets = answers.dataset, target_names(answers.test_set)
    correct = answers.correct()
    for row, right in zip(answers.rows, correct):
        index, read = int(row["index"]), row["status"] == READ
        name, group = dataset.name(index), dataset.group(index)
        names = dataset.group_names
        yield (
            name,
            None if group < 0 else (names[group] if group < len(names) else str(group)),
            targets[int(answers.test_set.targets[index])],
            answer_name(classifier, answers, int(row["prediction0"])) if read else None,
            float(row["confidence"]) if read else None,
            bool(right),
            shares.get(name),
        )


CLASS_COLUMNS = ("class", "n", "correct", "accuracy", "low", "high")


def class_rows(answers: Predictions) -> Iterator[tuple[object, ...]]:
    """One row of `CLASS_COLUMNS` for each class that has images, with Wilson intervals."""
    right, total = by_target(answers)
    names = target_names(answers.test_set)
    for i in np.flatnonzero(total):
        share = right[i] / total[i]
        yield (names[i], int(total[i]), int(right[i]), share, *wilson_interval(right[i], total[i]))


def confusion(
    classifier: Classifier, answers: Predictions
) -> tuple[list[str], Iterator[list[object]]]:
    """How often each class (rows) was called each other (columns), under the first convention.

    Only classes that occur have a row, and only answers that were given a column.
    """
    targets = answers.test_set.targets[answers.rows["index"]]
    given, places = np.unique(answers.rows["prediction0"], return_inverse=True)
    shown = np.unique(targets)
    table = np.zeros((len(shown), len(given)), np.int64)
    np.add.at(table, (np.searchsorted(shown, targets), places), 1)
    names = target_names(answers.test_set)
    header = [UNREAD if p < 0 else answer_name(classifier, answers, int(p)) for p in given]
    rows = ([names[int(t)], *line.tolist()] for t, line in zip(shown, table))
    return ["label", *header], rows


def _write_parquet(
    path: Path, classifier: Classifier, answers: Predictions, shares: Mapping[str, float]
) -> None:
    """Write the predictions a chunk at a time, so that memory does not grow."""
    arrow, parquet = (require(m, "tables") for m in ("pyarrow", "pyarrow.parquet"))
    text, real = arrow.string(), arrow.float64()
    kinds = (text, text, text, text, real, arrow.bool_(), real)
    schema = arrow.schema(list(zip(COLUMNS, kinds)))
    rows = prediction_rows(classifier, answers, shares)
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        while chunk := [row for row, _ in zip(rows, range(CHUNK))]:
            columns = [arrow.array(c, k) for c, k in zip(zip(*chunk), kinds)]
            writer.write_table(arrow.table(columns, schema=schema))
