"""The tables of a card: every record, and the facts about every run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vitreous.report.sources import Sample, Source
from vitreous.report.values import PER_MODEL, Value, identity, is_fraction, settings_text
from vitreous.results import Record

LONGEST_TEXT = 4000
SUITES = ("clean", "shifts", "attack", "rotation", "corruptions", "explanation", "brain")


@dataclasses.dataclass(frozen=True)
class Row:
    """One measure of the table, a value for each model."""

    suite: str
    dataset: str
    metric: str
    settings: str
    n: int | None
    values: Sequence[Value]

    @property
    def best(self) -> int | None:
        """Place of the highest value if its interval is clear of all others', else None."""
        known = [(v.value, i) for i, v in enumerate(self.values) if v.known]
        if len(known) < 2:
            return None
        _, place = max(known)
        low = (self.values[place].ci95 or (math.nan,))[0]
        rest = [self.values[i].ci95 for _, i in known if i != place]
        return place if all(ci is not None and ci[1] < low for ci in rest) else None


def rows(sources: Sequence[Source]) -> list[Row]:
    """Put the records of all models side by side: known suites first, what training said last."""
    table: dict[tuple[str, ...], dict[int, Record]] = {}
    for place, source in enumerate(sources):
        for record in source.results.records:
            table.setdefault(identity(record), {}).setdefault(place, record)
    found = [_row(records, len(sources)) for records in table.values()]
    suites = [
        *SUITES,
        *(s for s in dict.fromkeys(row.suite for row in found) if s != "training"),
        "training",
    ]
    return sorted(found, key=lambda row: suites.index(row.suite))


def _row(records: Mapping[int, Record], count: int) -> Row:
    one = next(iter(records.values()))
    shown = {k: v for k, v in one.settings.items() if k not in PER_MODEL and v is not None}
    values = [
        Value(math.nan)
        if place not in records
        else Value(
            records[place].value,
            records[place].ci95,
            records[place].n,
            is_fraction(records[place]),
            _own_settings(records[place]),
        )
        for place in range(count)
    ]
    settings = settings_text(shown)
    return Row(one.suite, one.dataset, one.metric.replace("_", " "), settings, one.n, values)


def _own_settings(record: Record) -> str:
    own = {k: v for k, v in record.settings.items() if k in PER_MODEL and k != "headline"}
    return settings_text(own)


def facts(sources: Sequence[Source]) -> list[tuple[str, list[str]]]:
    """Context of every run as rows of text: command, seed, device, versions, times."""
    shown_below = {"recipe"} if any(s.recipe for s in sources) else set()
    flat = [
        _flatten({k: v for k, v in s.results.context.items() if k not in shown_below})
        for s in sources
    ]
    names = dict.fromkeys(name for table in flat for name in table)
    order = ("command", "seed", "device", "cores", "seconds")
    ranked = sorted(names, key=lambda n: order.index(n) if n in order else len(order))
    return [(name, [table.get(name, "–") for table in flat]) for name in ranked]


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat |= _flatten(item, f"{name}: " if prefix else f"{key}: ")
        elif isinstance(item, float):
            flat[name] = f"{item:.4g}" if abs(item) < 1000 else f"{item:,.0f}"
        elif isinstance(item, (list, tuple)):
            flat[name] = ", ".join(map(str, item))[:LONGEST_TEXT]
        elif item is not None:
            flat[name] = str(item)[:LONGEST_TEXT]
    return flat


def extremes(samples: Sequence[Sample], count: int = 4) -> tuple[list[Sample], list[Sample]]:
    """The samples whose relevance moved most onto the object, and most off it.

    Returns:
        Best first and worst first, at most `count` each and none twice; where no change is
        known, the first samples as they come, and none.
    """
    known = sorted((s for s in samples if not math.isnan(s.change)), key=lambda s: -s.change)
    if not known:
        return list(samples[: 2 * count]), []
    half = min(count, (len(known) + 1) // 2)
    best = known[:half]
    worst = known[half:][::-1][:count]
    return best, worst
