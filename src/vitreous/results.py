"""`results.json`: the one format in which every number of Vitreous is stored and reported."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from vitreous.errors import VitreousError
from vitreous.io import read_json, write_json

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Record:
    """One measured number.

    Attributes:
        suite: What kind of measurement, for example `shifts`, `attack`, `explanation`, `brain`.
        dataset: The test set or assembly, for example `imagenet-a`.
        metric: The measure, for example `top1` (fractions are in [0, 1]).
        value: The number.
        n: How many pictures (or presentations, or neuroids) it comes from.
        ci95: The 95 % interval (low, high), where one is defined.
        settings: What else one must know to repeat it: convention, epsilon, angle, method, layer.
    """

    suite: str
    dataset: str
    metric: str
    value: float
    n: int | None = None
    ci95: tuple[float, float] | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def key(self) -> tuple[str, str, str, str]:
        """Identify what is measured; a new record with the same key replaces the old one."""
        return (self.suite, self.dataset, self.metric, repr(sorted(self.settings.items())))


@dataclasses.dataclass
class Results:
    """Records of one model, with what a reader needs to judge them.

    Attributes:
        model: Name of the model or run, as the report shows it.
        records: The measurements.
        context: Versions, hardware, seed, times, command (free form, shown on the card).
        extra: Named structured data that is more than numbers (curves, per-class counts, tables).
    """

    model: str
    records: list[Record] = dataclasses.field(default_factory=list)
    context: dict[str, Any] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, records: Iterable[Record]) -> None:
        """Add records; one that measures the same thing as an old one replaces it."""
        table = {record.key(): record for record in self.records}
        table.update((record.key(), record) for record in records)
        self.records = list(table.values())

    def find(self, **wanted: Any) -> list[Record]:
        """Return the records whose fields (or settings) equal all the given values."""

        def matches(record: Record) -> bool:
            fields = {**record.settings, **vars(record)}
            return all(fields.get(name) == value for name, value in wanted.items())

        return [record for record in self.records if matches(record)]

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write `results.json` atomically."""
        return write_json(path, {"version": VERSION, **dataclasses.asdict(self)})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Results:
        """Read a `results.json`, or the one inside a run folder.

        Raises:
            VitreousError: If it is missing, not JSON, or of another version.
        """
        file = Path(path)
        file = file / "results.json" if file.is_dir() else file
        raw = read_json(file)
        if not isinstance(raw, dict) or raw.get("version") != VERSION:
            found = raw.get("version") if isinstance(raw, dict) else type(raw).__name__
            raise VitreousError(f"{file}: expected results version {VERSION}, found {found}")
        try:
            records = [_record(r) for r in raw["records"]]
            return cls(raw["model"], records, raw.get("context", {}), raw.get("extra", {}))
        except (KeyError, TypeError) as error:
            raise VitreousError(f"{file} is not a results file: {error}") from error


def _record(raw: dict[str, Any]) -> Record:
    interval = raw.get("ci95")
    return dataclasses.replace(
        Record(**raw),
        value=math.nan if raw["value"] is None else float(raw["value"]),
        ci95=(float(interval[0]), float(interval[1])) if interval else None,
    )


def wilson_interval(successes: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
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
    suite: str, dataset: str, metric: str, correct: int, n: int, **settings: Any
) -> Record:
    """Make the record of a proportion, with its Wilson interval."""
    value = correct / n if n else math.nan
    return Record(suite, dataset, metric, value, n, wilson_interval(correct, n), settings)


def run_context(seed: int | None = None) -> dict[str, Any]:
    """Versions and hardware of this process, for the card."""
    import torch

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "not installed"

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    context: dict[str, Any] = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {n: version(n) for n in ("vitreous", "torch", "torchvision", "timm", "numpy")},
        "python": platform.python_version(),
        "device": device,
        "cores": os.cpu_count(),
    }
    if seed is not None:
        context["seed"] = seed
    return context
