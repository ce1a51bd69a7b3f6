"""Answers image by image, as `vitreous evaluate` leaves them: pairs of runs, and confusions."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vitreous.errors import VitreousError
from vitreous.io import inside, read_json
from vitreous.models.class_words import class_words
from vitreous.report.sources import Source
from vitreous.statistics import paired_interval

FOLDER, FILE, HEADER = "predictions", "predictions.csv", "header.json"
NEEDED = ("file", "label", "prediction", "correct")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model said of one image.

    Attributes:
        label: Name of its class.
        prediction: What the model said; empty where the image was not read.
        correct: Whether that counts as right.
    """

    label: str
    prediction: str
    correct: bool


Table = Mapping[str, Answer]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Accuracy of one model less that of another, on the same images.

    Attributes:
        name: What was predicted on.
        place: Of the model, among the sources; the first one is compared with.
        n: How many images both answered.
        gained: Right now and wrong before.
        lost: Wrong now and right before.
    """

    name: str
    place: int
    n: int
    gained: int
    lost: int

    @property
    def value(self) -> float:
        """The difference."""
        return (self.gained - self.lost) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval, see `paired_interval`."""
        return paired_interval(self.gained, self.lost, self.n)


def differences(sources: Sequence[Source]) -> list[Difference]:
    """Paired differences of every model from the first, wherever both kept their answers."""
    tables = [prediction_tables(source) for source in sources]
    told = []
    for place, table in enumerate(tables[1:], 1):
        for name in [n for n in tables[0] if n in table]:
            pairs = [
                (a.correct, b.correct)
                for file, a in tables[0][name].items()
                if (b := table[name].get(file)) is not None and a.label == b.label
            ]
            if pairs:
                gained = sum(b and not a for a, b in pairs)
                lost = sum(a and not b for a, b in pairs)
                told.append(Difference(name, place, len(pairs), gained, lost))
    return told


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a table of predictions is of.

    Attributes:
        path: The table.
        name: The set, as the card calls it.
        model: Fingerprint of the weights; empty where it is not known.
        whole: Whether it is of the images of the set as they are: not turned, not perturbed, and
            no part of a corrupted set.
    """

    path: Path
    name: str
    model: str = ""
    whole: bool = True


def prediction_tables(source: Source) -> dict[str, Table]:
    """Answers of a run on every set that has a table, by the name of the set.

    Of several tables of one set, those of the weights that the records are of, then the longest,
    then the newest.
    Tables of turned or perturbed images are passed over.
    """
    if source.folder is None:
        return {}
    current = {r.provenance.fingerprint for r in source.records} - {""}
    best: dict[str, tuple[tuple[bool, int, int], Table]] = {}
    for path in sorted(source.folder.glob(f"{FOLDER}/*/{FILE}")):
        for file in (path, path.with_name(HEADER)):
            inside(source.folder, file.relative_to(source.folder).as_posix())
        origin = _origin(path, source)
        if not origin.whole:
            continue
        table = read_predictions(path)
        rank = origin.model in current, len(table), path.stat().st_mtime_ns
        if origin.name not in best or rank > best[origin.name][0]:
            best[origin.name] = rank, table
    return {name: table for name, (_, table) in best.items()}


def _origin(path: Path, source: Source) -> Origin:
    """Read what a table is of from the header of its rows; without one, from its folder's name."""
    file = path.with_name(HEADER)
    header = read_json(file) if file.is_file() else {}
    settings = header.get("settings") if isinstance(header, dict) else None
    if not isinstance(settings, dict):
        # The end of the folder's name tells settings apart.
        return Origin(path, path.parent.name.rpartition("-")[0] or path.parent.name)
    name, place = str(header.get("name", "")), str(settings.get("source", ""))
    whole = not settings.get("change") and not settings.get("part")
    named = source.renamed(name, place)
    return Origin(path, named, str(header.get("model", "")), whole)


@functools.lru_cache(maxsize=32)
def _read(path: Path, size: int, changed: int) -> dict[str, Answer]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        return dict(_rows(csv.DictReader(opened), path))


def read_predictions(path: Path) -> Table:
    """Read a table of predictions: file → answer.

    Raises:
        VitreousError: If columns are missing, or a row is cut short.
    """
    try:
        stat = path.stat()
        return _read(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, csv.Error) as error:
        raise VitreousError(f"{path} cannot be read: {error}") from error


def _rows(reader: csv.DictReader[str], path: Path) -> Iterator[tuple[str, Answer]]:
    missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise VitreousError(f"{path}: expected the columns {', '.join(NEEDED)}, no {missing[0]}")
    for row in reader:
        if row["correct"] not in ("True", "False"):
            raise VitreousError(
                f"{path}, line {reader.line_num}: expected True or False under 'correct', "
                f"found {row['correct']!r}"
            )
        answer = Answer(
            class_words(row["label"]), class_words(row["prediction"]), row["correct"] == "True"
        )
        yield row["file"], answer


def confusions(table: Table, count: int = 8) -> list[tuple[str, str, int, int]]:
    """The most frequent wrong answers: label, prediction, how often, of how many of the label."""
    totals = collections.Counter(a.label for a in table.values())
    wrong = collections.Counter(
        (a.label, a.prediction) for a in table.values() if a.prediction and not a.correct
    )
    return [(*pair, n, totals[pair[0]]) for pair, n in wrong.most_common(count)]


def confusion_matrix(table: Table) -> tuple[list[str], list[str], list[list[float]]]:
    """Share of each label's images (rows) that got each answer (columns)."""
    pairs = collections.Counter((a.label, a.prediction or "(not read)") for a in table.values())
    labels = sorted({label for label, _ in pairs})
    answers = [*labels, *sorted({answer for _, answer in pairs} - set(labels))]
    totals = collections.Counter(a.label for a in table.values())
    return labels, answers, [[pairs[row, c] / totals[row] for c in answers] for row in labels]
