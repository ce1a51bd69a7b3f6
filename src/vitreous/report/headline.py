"""The headline row: clean, shifted, attacked, turned, relevance, brain, a value for each model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from vitreous.report.brain_scores import BrainScore, Kind, brain_scores
from vitreous.report.sources import Source
from vitreous.report.values import (
    ACCURACIES,
    ALIASES,
    Value,
    describe_record,
    identity,
    is_fraction,
    newest_by,
    signed,
)
from vitreous.results import Record


@dataclasses.dataclass(frozen=True)
class Tile:
    """One measure of the headline row: a value for every model."""

    title: str
    values: Sequence[Value]

    @property
    def known(self) -> bool:
        """Whether any model has it."""
        return any(value.known for value in self.values)

    @property
    def note(self) -> str:
        """What is measured."""
        return next((v.note for v in self.values if v.note), "")

    @property
    def fraction(self) -> bool:
        """Whether the values are shown as percent."""
        return next((v.fraction for v in self.values if v.known), True)

    @property
    def range(self) -> tuple[float, float]:
        """Limits of the marks: the whole percent scale, or what the values need."""
        ends = [e for v in self.values if v.known for e in (v.value, *(v.ci95 or ()))]
        if self.fraction and all(0 <= e <= 1 for e in ends):
            return 0.0, 1.0
        return (min(0.0, *ends), max(*ends, 0.0)) if ends else (0.0, 1.0)

    def change(self, place: int) -> str:
        """Difference from the first model, with its sign; empty where there is none."""
        first, value = self.values[0], self.values[place]
        if place == 0 or not first.known or not value.known:
            return ""
        difference = value.value - first.value
        return signed(100 * difference, 1) if self.fraction else signed(difference, 3)

    def clear(self, place: int) -> bool:
        """Whether the interval is clear of the first model's."""
        first, value = self.values[0].ci95, self.values[place].ci95
        if first is None or value is None:
            return False
        return value[0] > first[1] or value[1] < first[0]


def headline(sources: Sequence[Source]) -> list[Tile]:
    """The six measures of the headline: clean, shifted, attacked, turned, relevance, brain."""
    makers: dict[str, Callable[[Sequence[Source]], list[Value]]] = {
        "Clean": lambda s: _single(s, "clean", ACCURACIES),
        "Shifted": lambda s: _mean(s, "shifts", "dataset"),
        "Attacked": _attacked,
        "Turned": _turned,
        "Relevance on the object": _relevance,
        "Brain": _brain,
    }
    return [Tile(title, make(sources)) for title, make in makers.items()]


def _candidates(source: Source, suite: str, metrics: Iterable[str]) -> list[Record]:
    """Records of a suite with the first of the metrics that it has; chosen ones if any are."""
    for metric in metrics:
        found = [
            r
            for r in source.records
            if r.suite == suite and ALIASES.get(r.metric, r.metric) == metric
        ]
        found = [r for r in found if r.settings.get("headline")] or found
        if found:
            return list(newest_by(found, identity, lambda r: r).values())
    return []


def _value(record: Record) -> Value:
    return Value(record.value, record.ci95, record.n, is_fraction(record), describe_record(record))


def _same(sources: Sequence[Source], suite: str, metrics: Sequence[str]) -> list[list[Record]]:
    """Candidates of every model, kept to what all models that have any were measured on."""
    groups = [_candidates(s, suite, metrics) for s in sources]
    keys = [{identity(r) for r in group} for group in groups if group]
    common = set.intersection(*keys) if keys else set()
    return [[r for r in group if identity(r) in common] for group in groups]


def _pick(groups: list[list[Record]], choose: Callable[[list[Record]], Record]) -> list[Value]:
    """One record of each model, the same for all."""
    first = next((g for g in groups if g), None)
    if first is None:
        return [Value(math.nan) for _ in groups]
    wanted = identity(choose(first))
    chosen = [next((r for r in g if identity(r) == wanted), None) for g in groups]
    return [_value(r) if r is not None else Value(math.nan) for r in chosen]


def _single(sources: Sequence[Source], suite: str, metrics: Sequence[str]) -> list[Value]:
    return _pick(_same(sources, suite, metrics), lambda records: records[0])


def _average(records: list[Record], note: str) -> Value:
    """Plain mean of accuracies; the interval takes the sets as independent."""
    if len(records) == 1:
        return _value(records[0])
    if not records:
        return Value(math.nan)
    mean = sum(r.value for r in records) / len(records)
    interval = None
    if all(r.ci95 is not None for r in records):
        halves = [((r.ci95[1] - r.ci95[0]) / 2) ** 2 for r in records if r.ci95]
        half = math.sqrt(sum(halves)) / len(records)
        interval = (mean - half, mean + half)
    total = sum(r.n for r in records if r.n) or None
    return Value(mean, interval, total, is_fraction(records[0]), note)


def _mean(sources: Sequence[Source], suite: str, by: str) -> list[Value]:
    values = []
    for group in _same(sources, suite, ACCURACIES):
        first: dict[object, Record] = {}
        for record in group:
            first.setdefault(record.dataset if by == "dataset" else record.settings.get(by), record)
        values.append(_average(list(first.values()), f"mean of {len(first)} sets"))
    return values


def _attacked(sources: Sequence[Source]) -> list[Value]:
    """L∞'s largest perturbation up to 4/255 (or the smallest that there is), most steps."""

    def choose(records: list[Record]) -> Record:
        attacked = [r for r in records if float(r.settings.get("epsilon", 0)) > 0] or records
        linf = [r for r in attacked if r.settings.get("norm", "linf") == "linf"]
        sizes = [(float(r.settings.get("epsilon", 0)), r) for r in linf or attacked]
        usual = [s for s, _ in sizes if linf and s <= 4 / 255 + 1e-9]
        size = max(usual) if usual else min(s for s, _ in sizes)
        left = [r for s, r in sizes if s == size]
        return max(left, key=lambda r: (r.settings.get("steps", 0), r.settings.get("restarts", 0)))

    return _pick(_same(sources, "attack", ACCURACIES), choose)


def _turned(sources: Sequence[Source]) -> list[Value]:
    values = []
    for group in _same(sources, "rotation", ACCURACIES):
        quarters = [r for r in group if r.settings.get("angle") in (90, 180, 270)]
        turned = [r for r in quarters if not r.settings.get("disc")]
        datasets = {r.dataset for r in turned[:1]}
        turned = [r for r in turned if r.dataset in datasets]
        dataset = next(iter(datasets), "")
        angles = ", ".join(f"{r.settings['angle']:g}°" for r in turned)
        value = _average(turned, f"{dataset} · mean of {angles}")
        if value.ci95 and len(turned) > 1:
            # The same images, turned: not independent, so the mean is no surer than its parts.
            widest = max(r.ci95[1] - r.ci95[0] for r in turned if r.ci95) / 2
            ends = (max(0.0, value.value - widest), min(1.0, value.value + widest))
            value = dataclasses.replace(value, ci95=ends)
        values.append(value)
    return values


def _relevance(sources: Sequence[Source]) -> list[Value]:
    return _single(sources, "explanation", ("foreground_share",))


def _brain(sources: Sequence[Source]) -> list[Value]:
    """The mean over regions of one kind of score: one recording, metric and convention.

    `pixels` is what a model is compared with, not a layer of it.
    """
    groups = [[b for b in brain_scores(s) if b.layer != "pixels"] for s in sources]
    kinds = dict.fromkeys(score.kind for group in groups for score in group)
    if not kinds:
        return [Value(math.nan) for _ in sources]
    kind = max(kinds, key=lambda k: _preference(k, groups))
    mine = [_by_region(s for s in g if s.kind == kind) for g in groups]
    common = set.intersection(*(set(m) for m in mine if m))
    regions = [r for r in dict.fromkeys(r for m in mine for r in m) if r in common]
    layers = ", ".join(f"{r} ({_layers(sources, mine, r)})" for r in regions)
    note = f"{layers} · {kind.assembly} · {kind.words}"
    if kind.chosen_on_it:
        note += " · layers chosen on it"
    values = []
    for chosen in mine:
        value = _average([chosen[r].record for r in regions if r in chosen], note)
        values.append(dataclasses.replace(value, note=note) if value.known else value)
    return values


def _by_region(scores: Iterable[BrainScore]) -> dict[str, BrainScore]:
    """The newest score of each region; of a layer that was chosen before one that was named."""
    found = list(scores)
    chosen = [s for s in found if s.record.settings.get("chosen_on")]
    picked = (newest_by(some, lambda s: s.region, lambda s: s.record) for some in (found, chosen))
    return {region: score for part in picked for region, score in part.items()}


def _layers(sources: Sequence[Source], mine: Sequence[dict[str, BrainScore]], region: str) -> str:
    """The layer that is compared, or each model's where they differ."""
    layers = {s.name: m[region].layer for s, m in zip(sources, mine) if region in m}
    if len(set(layers.values())) == 1:
        return next(iter(layers.values()))
    return ", ".join(f"{name}: {layer}" for name, layer in layers.items())


def _preference(kind: Kind, groups: Sequence[Sequence[BrainScore]]) -> tuple[int | bool | str, ...]:
    """What most models have, on a recording that no layer was chosen on, the newest."""
    held = [[s for s in group if s.kind == kind] for group in groups]
    newest = max((s.record.provenance.when for g in held for s in g), default="")
    conventions = ("raw", "brainscore_2026", "brainscore_2022")
    ceiled = conventions.index(kind.convention) if kind.convention in conventions else -1
    return (sum(map(bool, held)), not kind.chosen_on_it, kind.metric == "pls", newest, ceiled)
