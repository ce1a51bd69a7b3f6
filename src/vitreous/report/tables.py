"""The tables of a card: every record, and the facts about every run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from vitreous.provenance import Provenance, hardware_text
from vitreous.report.sources import Sample, Source
from vitreous.report.values import (
    PER_MODEL,
    Value,
    identity,
    is_fraction,
    newest_by,
    settings_text,
)
from vitreous.results import Record

LONGEST_TEXT = 4000
SUITES = (
    "clean",
    "shifts",
    "backgrounds",
    "attack",
    "rotation",
    "corruptions",
    "explanation",
    "brain",
)


@dataclasses.dataclass(frozen=True)
class TableRow:
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


def rows(sources: Sequence[Source]) -> list[TableRow]:
    """Put the records of all models side by side: known suites first, what training said last.

    Where a model has several that differ only in what may differ by model (its layer), the newest
    stands beside the other models', and the others in rows of their own.
    """
    table: dict[tuple[str, ...], dict[int, Record]] = {}
    for place, source in enumerate(sources):
        newest = newest_by(source.records, identity, lambda r: r)
        for record in source.records:
            key = identity(record)
            if newest[key] is not record:
                key = (*key, _own_settings(record))
            table.setdefault(key, {})[place] = record
    found = [_row(records, len(sources)) for records in table.values()]
    suites = [
        *SUITES,
        *(s for s in dict.fromkeys(row.suite for row in found) if s != "training"),
        "training",
    ]
    return sorted(found, key=lambda row: suites.index(row.suite))


def _row(records: Mapping[int, Record], count: int) -> TableRow:
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
    return TableRow(one.suite, one.dataset, one.metric.replace("_", " "), settings, one.n, values)


def _own_settings(record: Record) -> str:
    own = {k: v for k, v in record.settings.items() if k in PER_MODEL and k != "headline"}
    return settings_text(own)


def facts(sources: Sequence[Source]) -> list[tuple[str, list[str]]]:
    """What is known of every model, and where its measurements come from, as rows of text."""
    shown_below = {"recipe"} if any(s.recipe for s in sources) else set()
    flat = [
        {
            **_flatten({k: v for k, v in s.results.context.items() if k not in shown_below}),
            **_provenance(s),
        }
        for s in sources
    ]
    names = dict.fromkeys(name for table in flat for name in table)
    order = ("command", "seed", "device", "cores", "seconds")
    ranked = sorted(names, key=lambda n: order.index(n) if n in order else len(order))
    return [(name, [table.get(name, "–") for table in flat]) for name in ranked]


def _provenance(source: Source) -> dict[str, str]:
    """Command, time, seed, hardware and versions of every call that a shown record comes from."""
    calls: dict[str, list[Provenance]] = {}
    for made in {r.provenance.identity: r.provenance for r in source.records}.values():
        if made.kind:
            calls.setdefault(made.kind, []).append(made)
    shown: dict[str, str] = {}
    for kind, every in calls.items():
        told = {
            "command": [m.command for m in every],
            "ended": [m.when for m in every],
            "seconds": [f"{m.seconds:,.1f}" for m in every if m.seconds is not None],
            "seed": [str(m.seed) for m in every if m.seed is not None],
            "hardware": [hardware_text(m.hardware) for m in every],
            "versions": [_pairs(m.versions) for m in every],
            "weights": [m.fingerprint for m in every],
        }
        for name, values in told.items():
            if text := "; ".join(dict.fromkeys(v for v in values if v)):
                shown[f"{kind}: {name}"] = text[:LONGEST_TEXT]
    return shown


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _flatten(value: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat |= _flatten(item, f"{name}: " if prefix else f"{key}: ")
        elif isinstance(item, float):
            flat[name] = f"{item:.4g}" if abs(item) < 1000 else f"{item:,.0f}"
        elif isinstance(item, (list, tuple)):
            flat |= {name: ", ".join(map(str, item))[:LONGEST_TEXT]} if item else {}
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
