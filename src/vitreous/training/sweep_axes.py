"""What a sweep searches: settings of a recipe and their ranges, and combinations of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vitreous.config import Values, merge, parse_number
from vitreous.errors import VitreousError
from vitreous.yaml_text import parse_yaml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FORM = "expected KEY=log:LOW:HIGH, linear:LOW:HIGH, int:LOW:HIGH or choice:A:B, found "
LARGEST_GRID = 10_000


@dataclasses.dataclass(frozen=True)
class Axis:
    """One setting that is searched.

    Attributes:
        key: Dotted key in the recipe.
        kind: `log`, `linear`, `int` or `choice`.
        values: Lowest and highest value, or the choices as YAML text.
    """

    key: str
    kind: str
    values: tuple[str, ...]

    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.kind == "choice":
            return CategoricalDistribution(self.values)
        low, high = (parse_number(value) for value in self.values)
        if self.kind == "int":
            return IntDistribution(int(low), int(high))
        return FloatDistribution(low, high, log=self.kind == "log")

    def grid(self) -> list[str | int] | None:
        """Every value, or None where there are more than can be told."""
        if self.kind == "choice":
            return list(self.values)
        if self.kind == "int":
            low, high = (int(parse_number(value)) for value in self.values)
            return list(range(low, high + 1)) if high - low < LARGEST_GRID else None
        return None

    def override(self, value: object) -> Values:
        """The recipe's setting at one value."""
        if isinstance(value, str):
            value = parse_yaml(value, f"--search {self.key}")
        *parents, leaf = self.key.split(".")
        nested: Values = {leaf: value}
        for name in reversed(parents):
            nested = {name: nested}
        return nested

    def place(self, value: object) -> float:
        """Where a value lies between the lowest (0) and the highest (1), in the axis' own scale."""
        if self.kind == "choice":
            return self.values.index(str(value)) / max(len(self.values) - 1, 1)
        low, high, own = (parse_number(str(v)) for v in (*self.values, value))
        if self.kind == "log":
            low, high, own = math.log(low), math.log(high), math.log(own)
        return (own - low) / (high - low) if high > low else 0.0


def parse_axis(text: str) -> Axis:
    """Read `KEY=log:LOW:HIGH`, `KEY=linear:LOW:HIGH`, `KEY=int:LOW:HIGH` or `KEY=choice:A:B:…`.

    Raises:
        VitreousError: For any other form, or a range that is none.
    """
    match = re.fullmatch(r"(\w+(?:\.\w+)*)=(log|linear|int|choice):(.+)", text)
    if match is None:
        raise VitreousError(f"{FORM}'{text}'")
    key, kind, values = match[1], match[2], tuple(match[3].split(":"))
    if kind == "choice":
        return Axis(key, kind, tuple(dict.fromkeys(values)))
    if len(values) != 2:
        raise VitreousError(f"{FORM}'{text}'")
    low, high = (_number(value, text) for value in values)
    if low > high:
        raise VitreousError(f"--search {text}: expected LOW:HIGH, found {low:g} above {high:g}")
    if kind == "log" and low <= 0:
        raise VitreousError(f"--search {text}: a logarithm needs numbers above 0, found {low:g}")
    if kind == "int" and (low % 1 or high % 1):
        raise VitreousError(f"--search {text}: expected whole numbers")
    return Axis(key, kind, values)


def _number(value: str, text: str) -> float:
    try:
        return parse_number(value)
    except VitreousError as error:
        raise VitreousError(f"--search {text}: expected a number, found '{value}'") from error


def chosen_settings(
    axes: Sequence[Axis], values: Mapping[str, object], overrides: Values
) -> Values:
    """The settings of a trial, laid over those of all trials."""
    chosen = overrides
    for axis in axes:
        chosen = merge(chosen, axis.override(values[axis.key]))
    return chosen


def untried(
    axes: Sequence[Axis], tried: Sequence[Mapping[str, object]], seed: int
) -> dict[str, str | int] | None:
    """A combination not tried before, {} where none is left, None where there is no end of them."""
    grids = [axis.grid() for axis in axes]
    sizes = [len(grid) if grid is not None else math.inf for grid in grids]
    if math.prod(sizes) > LARGEST_GRID:
        return None
    every = [
        dict(zip((axis.key for axis in axes), values))
        for values in itertools.product(*(grid for grid in grids if grid is not None))
    ]
    random.Random(seed).shuffle(every)
    return next((values for values in every if values not in tried), {})
