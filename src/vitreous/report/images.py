"""The images of a card: relevance before and after, best and worst answers, targeted strips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vitreous.io import inside
from vitreous.models.class_words import class_words
from vitreous.report import tables
from vitreous.report.charts import percent
from vitreous.report.sources import Embedded, Sample, Source, Strip, Table, embed

ROLES = ("picture", "mask", "before", "after")
ANSWERS = 8


@dataclasses.dataclass(frozen=True)
class Pair:
    """A sample with its images embedded, in the order in which they are shown."""

    sample: Sample
    images: Sequence[tuple[str, Embedded | None]]


def pairs(source: Source) -> tuple[list[Pair], list[Pair]]:
    """The best and the worst changes of a run's samples."""
    best, worst = tables.extremes(source.samples)
    return [_pair(s) for s in best], [_pair(s) for s in worst]


def _pair(sample: Sample) -> Pair:
    roles = [r for r in ROLES if r in sample.files] + [r for r in sample.files if r not in ROLES]
    return Pair(sample, [(role, embed(sample.files[role])) for role in roles])


def panel_images(item: Strip) -> tuple[str, list[tuple[str, Embedded | None]]]:
    """Title and captioned images of a strip of targeted perturbations."""
    return item.title, [(caption, embed(path)) for caption, path in item.files.items()]


@dataclasses.dataclass(frozen=True)
class AnswerSample:
    """One of the best or worst answers on a test set."""

    label: str
    prediction: str
    confidence: str
    images: Sequence[tuple[str, Embedded | None]]


Gallery = tuple[int, str, str, list[tuple[str, list[AnswerSample]]]]


def galleries(sources: Sequence[Source]) -> list[Gallery]:
    """Best and worst answers of every model on every set that has such images."""
    found: list[Gallery] = []
    for color, source in enumerate(sources):
        for dataset, entry in source.results.extra.get("evaluation", {}).items():
            parts = [
                (heading, [_answer(a, source.folder or Path()) for a in entry[key][:ANSWERS]])
                for key, heading in (("best", "Surest and right"), ("worst", "Surest and wrong"))
                if entry.get(key)
            ]
            if parts:
                found.append((color, source.name, dataset, parts))
    return found


def _answer(entry: Table, folder: Path) -> AnswerSample:
    roles = [r for r in ("picture", "relevance") if entry.get(r)]
    confidence = entry.get("confidence")
    return AnswerSample(
        class_words(str(entry.get("label", ""))),
        class_words(str(entry.get("prediction", ""))),
        "" if confidence is None else percent(float(confidence)),
        [(role, embed(inside(folder, entry[role], "results.json"))) for role in roles],
    )
