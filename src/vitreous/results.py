"""`results.json`: the one format in which every number of Vitreous is stored and reported."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from vitreous.disk import tidy, writing
from vitreous.errors import VitreousError
from vitreous.io import finite, read_json, write_json
from vitreous.names import distinct_names
from vitreous.provenance import Provenance
from vitreous.results_format import fields_of, typed
from vitreous.statistics import NORMAL_QUANTILE

VERSION = 2
LOCK_SECONDS = 60
UNKNOWN = Provenance()


@dataclasses.dataclass(frozen=True)
class Record:
    """One measured number.

    Attributes:
        suite: What kind of measurement, for example `shifts`, `attack`, `explanation`, `brain`.
        dataset: The test set or assembly, for example `imagenet-a`.
        metric: The measure, for example `top1` (fractions are in [0, 1]).
        value: The number.
        n: How many images (or presentations, or neuroids) it comes from.
        ci95: The 95 % interval (low, high), where one is defined.
        settings: What else one must know to repeat it: convention, epsilon, angle, method, layer.
        source: Where the dataset is (its path), which tells two of one name apart.
        provenance: Command, model, moment and machine; set when it is added to results.
        warnings: What may make the value mean less than it seems to, in sentences.
    """

    suite: str
    dataset: str
    metric: str
    value: float
    n: int | None = None
    ci95: tuple[float, float] | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: str = ""
    provenance: Provenance = UNKNOWN
    warnings: tuple[str, ...] = ()

    def made_in(self, precision: str) -> Record:
        """The record with the type of the forward pass, where that is not float32."""
        if precision == "float32":
            return self
        return dataclasses.replace(self, settings={**self.settings, "precision": precision})

    def key(self) -> tuple[object, ...]:
        """Everything that the value depends on; a new record replaces an old one of the same."""
        made = self.provenance
        return (*self.topic(), self.n, made.kind, made.model, made.fingerprint, made.seed)

    def topic(self) -> tuple[str, ...]:
        """What is measured on what and how, whichever model it is of and on however many."""
        settings = json.dumps(finite(self.settings), sort_keys=True, default=str)
        return (self.suite, self.dataset, self.source, self.metric, settings)


@dataclasses.dataclass
class Results:
    """Records of one model, with what a reader needs to judge them.

    Attributes:
        model: Name of the model or run, as the report shows it.
        records: The measurements, each with its provenance.
        context: What else is known of the model: recipe, base model, epochs (free form).
        extra: Named structured data that is more than numbers (curves, per-class counts, tables).
    """

    model: str
    records: list[Record] = dataclasses.field(default_factory=list)
    context: dict[str, Any] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, records: Iterable[Record], made: Provenance | None = None) -> None:
        """Add records; one replaces an old one only where their keys are equal.

        Args:
            records: The new ones.
            made: Their provenance, for those that have none yet.
        """
        table = {record.key(): record for record in self.records}
        for record in records:
            if made is not None and record.provenance == UNKNOWN:
                record = dataclasses.replace(record, provenance=made)
            table[record.key()] = record
        self.records = list(table.values())

    def add_extra(self, extra: Mapping[str, object]) -> None:
        """Add structured data, key by key.

        An entry that says what it belongs to (`name`, `place` of the dataset, `settings`) goes to
        the one that belongs to the same, whatever that one's key is; one that belongs to something
        else stands beside it, as `NAME (PLACE)` or `NAME (PLACE, SETTINGS)`. An entry of another
        `fingerprint` is replaced whole; one of fewer items (an integer `n`) never replaces a
        fuller one of the same model.
        """
        self.extra = _merged(self.extra, extra)

    def current(self) -> list[Record]:
        """One record for each topic: of the newest weights the fullest, of those the newest."""
        topics: dict[tuple[str, ...], list[Record]] = {}
        for record in self.records:
            topics.setdefault(record.topic(), []).append(record)
        return [_best(records) for records in topics.values()]

    def find(self, **wanted: object) -> list[Record]:
        """Return the current records whose fields (or settings) equal all the given values."""

        def matches(record: Record) -> bool:
            fields = {**record.settings, **vars(record)}
            return all(fields.get(name) == value for name, value in wanted.items())

        return [record for record in self.current() if matches(record)]

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write `results.json` atomically, whatever is there; `update` adds to what is there."""
        made: dict[str, object] = {}
        records = []
        for record in self.records:
            row = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
            row["provenance"] = name = _identity(record.provenance)
            if name:
                made[name] = dataclasses.asdict(record.provenance)
            needed = ("suite", "dataset")
            records.append({k: v for k, v in row.items() if v not in ("", ()) or k in needed})
        value = {"version": VERSION, "model": self.model, "records": records, "provenance": made}
        return write_json(path, {**value, "context": self.context, "extra": self.extra})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Results:
        """Read a `results.json`, or the one inside a run folder; also of version 1.

        Raises:
            VitreousError: If it is missing, not JSON, of another version, or of wrong types.
        """
        file = Path(path)
        file = file / "results.json" if file.is_dir() else file
        raw = typed(read_json(file), dict, f"{file}")
        if typed(raw.get("version"), int, f"{file}: version") not in (1, VERSION):
            raise VitreousError(
                f"{file}: expected results of version 1 or {VERSION}, found {raw['version']!r:.40}"
            )
        made = {
            name: Provenance(**fields_of(row, Provenance, f"{file}, provenance {name}"))
            for name, row in typed(raw.get("provenance", {}), dict, f"{file}: provenance").items()
        }
        records = [
            _record(row, made, f"{file}, record {place}")
            for place, row in enumerate(typed(raw.get("records"), list, f"{file}: records"), 1)
        ]
        parts = [typed(raw.get(k, {}), dict, f"{file}: {k}") for k in ("context", "extra")]
        return cls(typed(raw.get("model"), str, f"{file}: model"), records, *parts)

    @classmethod
    def check_owner(cls, path: str | os.PathLike[str], model: str) -> None:
        """Refuse a file that holds what was measured of another model.

        Args:
            path: `results.json`, or the folder that holds it or is to hold it.
            model: Where the model is, or its name, as `context["model_place"]` has it; empty for
                a model that lies in the folder itself.

        Raises:
            VitreousError: If it is another one's; names both.
        """
        file = Path(path)
        file = file if file.suffix == ".json" else file / "results.json"
        other = cls.read(file).context.get("model_place") if file.is_file() else None
        if model and other and other != model:
            raise VitreousError(
                f"{file} holds results of {other}, not of {model}; choose another folder with --out"
            )

    @classmethod
    @contextlib.contextmanager
    def edit(cls, path: str | os.PathLike[str], model: str) -> Generator[Results]:
        """Read a file of results (or begin one), yield it, write it; no other writer between.

        Args:
            path: `results.json`, or the folder that holds it or is to hold it.
            model: Name of the model, for a new file.

        Raises:
            VitreousError: If another process holds the file for a minute, or it cannot be read
                or written.
        """
        file = Path(path)
        file = file if file.suffix == ".json" else file / "results.json"
        with _lock(file):
            tidy(file.parent)
            results = cls.read(file) if file.is_file() else cls(model)
            yield results
            results.write(file)

    @classmethod
    def update(
        cls,
        path: str | os.PathLike[str],
        records: Iterable[Record],
        made: Provenance,
        *,
        extra: Mapping[str, object] | None = None,
        context: Mapping[str, object] | None = None,
    ) -> Results:
        """Add what was measured to a file of results: the one way to write it.

        Args:
            path: `results.json`, or its folder.
            records: What was measured.
            made: Where it comes from (`vitreous.provenance.provenance`); also names the model.
            extra: Structured data to add, see `add_extra`.
            context: Facts of the model to set.

        Returns:
            What the file holds now.
        """
        with cls.edit(path, made.model) as results:
            results.add(records, made)
            results.add_extra(extra or {})
            results.context.update(context or {})
        return results


@contextlib.contextmanager
def _lock(file: Path) -> Generator[None]:
    try:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(file.with_name(f".{file.name}.lock"), timeout=LOCK_SECONDS)
            lock.acquire()
    except filelock.Timeout as error:
        raise VitreousError(
            f"another process has been writing {file} for {LOCK_SECONDS} s; wait for it, or end it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _identity(made: Provenance) -> str:
    return "" if made == UNKNOWN else made.identity


def _best(records: list[Record]) -> Record:
    """Of records of one topic: of the newest weights, on the most items, the newest.

    Of those of one second the last that was added.
    """
    latest = records[::-1]
    newest = max(latest, key=lambda r: r.provenance.when).provenance.fingerprint
    return max(
        latest,
        key=lambda r: (r.provenance.fingerprint == newest, r.n or 0, r.provenance.when),
    )


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, Mapping)) or _is_table(new):
        return new
    if old.get("fingerprint") != new.get("fingerprint"):
        return new
    counts = old.get("n"), new.get("n")
    if all(isinstance(n, int) for n in counts) and counts[0] > counts[1]:
        return _merged(dict(new), {k: v for k, v in old.items() if k != "n"}) | {"n": counts[0]}
    merged = dict(old)
    for name, value in new.items():
        key = _key_of(name, merged, value)
        merged[key] = _merged(old.get(key), value)
    return merged


def _key_of(key: str, entries: Mapping[str, Any], new: Any) -> str:
    """The key of an entry: that of the one which belongs to the same, or one that is free.

    Args:
        key: What it is called where it comes from.
        entries: Those that are there.
        new: The entry.
    """
    wanted = belongs(key, new)
    held = next((k for k, entry in entries.items() if belongs(k, entry) == wanted), None)
    name, place, settings = wanted
    told = [name, f"{name} ({place})", f"{name} ({', '.join(t for t in (place, settings) if t)})"]
    return held or next((k for k in told if k not in entries), told[-1])


def belongs(key: str, entry: object) -> tuple[str, str, str]:
    """What an entry of `Results.extra` belongs to: name and place of the dataset, and settings."""
    if not isinstance(entry, Mapping) or not {"place", "settings"} & entry.keys():
        return key, "", ""
    place = str(entry.get("place") or "")
    told = entry.get("settings")
    settings = (
        ", ".join(f"{k} {v}" for k, v in sorted(told.items())) if isinstance(told, dict) else ""
    )
    return str(entry.get("name") or key.removesuffix(f" ({place})")), place, settings


def _is_table(value: Mapping[str, object]) -> bool:
    """Whether it is a table by columns, which is replaced whole."""
    return bool(value) and all(isinstance(column, list) for column in value.values())


def _record(raw: object, made: Mapping[str, Provenance], where: str) -> Record:
    row = fields_of(raw, Record, where)
    if (name := row.pop("provenance", "")) and name not in made:
        raise VitreousError(f"{where}: its provenance '{name}' is not in the file")
    return Record(**row, provenance=made.get(name, UNKNOWN))


def told_apart(groups: Sequence[Sequence[Record]]) -> Callable[[str, str], str]:
    """Names of datasets for records of several models, made distinct where one model needs it.

    Args:
        groups: The records of each model.

    Returns:
        From a dataset's name and place to the name to show. Where a model was measured on two
        datasets of one name, these are called by their paths in every model; where none was, a
        dataset keeps its name wherever it lies.
    """
    named: dict[tuple[str, str], str] = {}
    keys = [dict.fromkeys((r.dataset, r.source) for r in group if r.source) for group in groups]
    for dataset in dict.fromkeys(name for group in keys for name, _ in group):
        where = [[place for name, place in group if name == dataset] for group in keys]
        if max(map(len, where)) > 1:
            every = list(dict.fromkeys(place for places in where for place in places))
            told = distinct_names(every, [dataset] * len(every))
            named |= {(dataset, place): text for place, text in zip(every, told)}
    return lambda name, place: named.get((name, place), name)


def wilson_interval(successes: float, n: int, z: float = NORMAL_QUANTILE) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); 95 % by default.

    Args:
        successes: How many of `n` succeeded.
        n: How many were tried; for 0 the interval is (0, 1).
        z: Normal quantile of the wanted coverage.
    """
    if n == 0:
        return (0.0, 1.0)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (max(0.0, centre - half), min(1.0, centre + half))


def accuracy_record(
    suite: str, dataset: str, metric: str, correct: int, n: int, **settings: object
) -> Record:
    """Make the record of a proportion, with its Wilson interval."""
    value = correct / n if n else math.nan
    return Record(suite, dataset, metric, value, n, wilson_interval(correct, n), settings)


def difference_interval(record: Record, base: Record) -> tuple[float, float]:
    """Bound the difference of two proportions of different items, 95 %.

    Their Wilson intervals combined (Newcombe 1998, method 10); where the items are the same it is
    wider than it need be, see `vitreous.statistics.paired_interval`.
    """
    (low, high), (base_low, base_high) = record.ci95 or (0, 1), base.ci95 or (0, 1)
    gain = record.value - base.value
    down = math.hypot(record.value - low, base_high - base.value)
    up = math.hypot(high - record.value, base.value - base_low)
    return gain - down, gain + up
