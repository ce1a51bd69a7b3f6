"""BG-gap: what a model loses when the background is that of another class (Xiao et al. 2021)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitreous.evaluation.predictions import Predictions
from vitreous.results import Record
from vitreous.statistics import paired_interval


def background_gaps(
    predicted: Iterable[Predictions],
) -> Iterator[tuple[list[Record], str, dict[str, str]]]:
    """BG-gap of every backgrounds challenge among some answers.

    It is the accuracy on `mixed_same` less that on `mixed_rand`, of the same objects, so that
    what pasting itself costs is in both; the interval is a paired one.

    Returns:
        For each challenge its record (metric `background_gap`, a difference of shares), the folder
        and how labels were read.
    """
    challenges: dict[Path, dict[str, Predictions]] = defaultdict(dict)
    for answers in predicted:
        if answers.test_set.version and not answers.condition:
            place = Path(answers.test_set.place)
            challenges[place.parent][answers.test_set.version] = answers
    for place, versions in challenges.items():
        if not {"mixed_same", "mixed_rand"} <= versions.keys():
            continue
        same, rand = (_right(versions[name]) for name in ("mixed_same", "mixed_rand"))
        names = sorted(same.keys() & rand.keys())
        if not names:
            continue
        lost = sum(same[n] and not rand[n] for n in names)
        won = sum(rand[n] and not same[n] for n in names)
        count, first = len(names), versions["mixed_same"]
        name = first.test_set.name.removesuffix("-mixed_same")
        settings: dict[str, object] = {"convention": first.conventions[0].name}
        interval = paired_interval(lost, won, count)
        record = Record(
            "backgrounds", name, "background_gap", (lost - won) / count, count, interval, settings
        )
        yield [record], str(place), first.test_set.reading


def _right(answers: Predictions) -> dict[str, bool]:
    """Whether each image that counts is right, by its name."""
    rows = zip(answers.rows["index"].tolist(), answers.counted, answers.correct())
    return {answers.dataset.name(i): bool(right) for i, counted, right in rows if counted}
