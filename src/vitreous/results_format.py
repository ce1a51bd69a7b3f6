"""Types of what a results file holds, checked where it enters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from vitreous.errors import VitreousError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kind = TypeVar("Kind")
WORDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
}


def typed(value: object, kind: type[Kind], where: str) -> Kind:
    """Return a value if it is of a type that JSON has.

    Raises:
        VitreousError: If it is not; says where.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise VitreousError(
            f"{where}: expected {WORDS.get(kind, kind.__name__)}, found {value!r:.60}"
        )
    return value


def fields_of(raw: object, kind: type[DataclassInstance], where: str) -> dict[str, Any]:
    """Arguments of a `Record` or a `Provenance` from JSON, each of its type.

    Raises:
        VitreousError: For a field that is unknown, missing or of another type; says which.
    """
    row = typed(raw, dict, where)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in row:
        if name not in fields:
            raise VitreousError(f"{where}: unknown field '{name!s:.40}'; is it of a newer version?")
    values = {}
    for name, field in fields.items():
        if name in row:
            values[name] = CHECKS[name](row[name], f"{where}: {name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise VitreousError(f"{where}: '{name}' is missing")
    return values


def _text(value: object, where: str) -> str:
    return typed(value, str, where)


def _object(value: object, where: str) -> dict[str, object]:
    return typed(value, dict, where)


def _number(value: object, where: str) -> float:
    """A number; null stands for one that is not finite."""
    if value is None:
        return math.nan
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return float(value)
    return typed(value, float, where)


def _count(value: object, where: str) -> int | None:
    if value is None:
        return None
    if (count := typed(value, int, where)) < 0:
        raise VitreousError(f"{where}: expected a count, found {count}")
    return count


def _whole(value: object, where: str) -> int | None:
    return None if value is None else typed(value, int, where)


def _seconds(value: object, where: str) -> float | None:
    return None if value is None else _number(value, where)


def _interval(value: object, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    ends = typed(value, list, where)
    if len(ends) != 2:
        raise VitreousError(f"{where}: expected two numbers, found {value!r:.60}")
    return _number(ends[0], where), _number(ends[1], where)


def _texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(typed(text, str, where) for text in typed(value, list, where))


CHECKS: dict[str, Callable[[object, str], object]] = {
    **dict.fromkeys(("suite", "dataset", "metric", "source", "provenance"), _text),
    **dict.fromkeys(("kind", "model", "fingerprint", "command", "when"), _text),
    **dict.fromkeys(("settings", "hardware", "versions"), _object),
    "value": _number,
    "n": _count,
    "ci95": _interval,
    "warnings": _texts,
    "seed": _whole,
    "seconds": _seconds,
}
