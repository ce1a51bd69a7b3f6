"""How a record is written: as percent or a number, with its interval and what it measures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

from vitreous.report.charts import number, percent
from vitreous.results import Record

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
ACCURACIES = ("robust_accuracy", "top1", "accuracy")
FRACTIONS = {
    *ACCURACIES,
    *("top5", "top1_200", "top1_1000", "clean_accuracy", "invariance", "ece", "shape_bias"),
    *("foreground_share", "pointing_game", "pixel_accuracy", "mean_iou", "mean_ap"),
    *("agreement", "effective_robustness", "difference", "error", "attack_success"),
    "background_gap",
}
# Settings that may differ between models that were measured on the same thing.
PER_MODEL = {"layer", "preprocessing", "size", "crop_ratio", "interpolation", "headline"}
ALIASES = {"foreground": "foreground_share", "relevance_on_foreground": "foreground_share"}


@dataclasses.dataclass(frozen=True)
class Value:
    """A number as the card shows it.

    Attributes:
        value: The number; NaN if the model has none.
        ci95: Its interval, if it has one.
        n: How many images it comes from.
        fraction: Whether it is shown as percent.
        note: What it is exactly (test set, metric, settings).
    """

    value: float
    ci95: tuple[float, float] | None = None
    n: int | None = None
    fraction: bool = True
    note: str = ""

    @property
    def text(self) -> str:
        """The number, written."""
        text = percent(self.value) if self.fraction else number(self.value)
        return text.replace("-", "−")

    @property
    def interval(self) -> str:
        """The interval, written; empty where there is none."""
        if self.ci95 is None:
            return ""
        low, high = self.ci95
        if self.fraction:
            return f"{100 * low:.1f} – {100 * high:.1f}".replace("-", "−")
        return f"{number(low)} – {number(high)}".replace("-", "−")

    @property
    def known(self) -> bool:
        """Whether there is a number at all."""
        return math.isfinite(self.value)


def signed(value: float, digits: int) -> str:
    """Write a difference with its sign: `+1.2`, `−0.5`, `±0.0`."""
    text = f"{abs(value):.{digits}f}"
    if not text.strip("0."):
        return f"±{text}"
    return ("+" if value > 0 else "−") + text


def is_fraction(record: Record) -> bool:
    """Whether a record's value is a share that reads best as percent."""
    metric = ALIASES.get(record.metric, record.metric)
    ends = ("_share", "_rate", "top1", "top5")
    return metric in FRACTIONS or "accuracy" in metric or metric.endswith(ends)


def describe_record(record: Record, with_suite: bool = False) -> str:
    """Say in words what a record measures."""
    shown = {k: v for k, v in record.settings.items() if k not in PER_MODEL and v is not None}
    settings = settings_text(shown)
    parts = [record.suite] if with_suite else []
    parts += [record.dataset, record.metric.replace("_", " ")]
    return " · ".join(p for p in [*parts, settings] if p)


def settings_text(settings: Mapping[str, object]) -> str:
    """Write settings in one line."""
    norm = str(settings.get("norm", "linf"))
    return ", ".join(
        f"{k.replace('_', ' ')} {setting_text(k, v, norm)}" for k, v in sorted(settings.items())
    )


def setting_text(name: str, value: object, norm: str = "linf") -> str:
    """Write a setting; perturbation sizes in L∞ as multiples of 1/255 where they are such."""
    radius = name in ("epsilon", "eps", "step_size") and norm == "linf"
    if radius and isinstance(value, (int, float)):
        steps = float(value) * 255
        if value and abs(steps - round(steps, 1)) < 1e-6:
            return f"{steps:g}/255"
    return f"{value:g}" if isinstance(value, float) else str(value)


def identity(record: Record) -> tuple[str, ...]:
    """What is measured, apart from settings that differ by model (a layer, a file)."""
    settings = {k: v for k, v in record.settings.items() if k not in PER_MODEL}
    return (record.suite, record.dataset, record.metric, repr(sorted(settings.items())))


def newest_by(
    items: Iterable[Item], key: Callable[[Item], Key], record: Callable[[Item], Record]
) -> dict[Key, Item]:
    """Of those with one key the newest, each at the place of the first."""
    best: dict[Key, Item] = {}
    for item in items:
        old = best.setdefault(key(item), item)
        if record(item).provenance.when > record(old).provenance.when:
            best[key(item)] = item
    return best
