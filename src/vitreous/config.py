"""Typed settings from YAML: strict about names, types and ranges, with overrides by dotted key.

Settings are frozen dataclasses. `build` turns plain YAML values into them and refuses what does
not fit, naming the key and the nearest valid one; `plain` turns them back. A field's range is part
of its type (`Annotated[int, at_least(1)]`, see `vitreous.ranges`). A field of type
`dict[str, Part]` whose metadata holds a registry (see `parts`) is built by name.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

from vitreous.errors import MissingKeysError, VitreousError, nearest, shorten
from vitreous.io import check_path
from vitreous.overrides import Values as Values
from vitreous.overrides import merge as merge
from vitreous.overrides import parse_overrides as parse_overrides
from vitreous.ranges import Range
from vitreous.registry import Registry
from vitreous.renamed import RENAMED_VALUES, current_name
from vitreous.renamed import warn_renamed as warn_renamed
from vitreous.text import read_text
from vitreous.yaml_text import parse_yaml

T = TypeVar("T")
_REGISTRY = "registry"


def parts(registry: Registry[type[T]]) -> dict[str, T]:
    """Declare a field `dict[str, Part]`: name in the registry → that part's settings."""
    return dataclasses.field(default_factory=dict, metadata={_REGISTRY: registry})


def part(registry: Registry[type[T]], default: str | None = None) -> T:
    """Declare a field that holds one part: a mapping with its `name` and its settings, or null."""

    def make() -> Any:
        return None if default is None else registry[default]()

    return dataclasses.field(default_factory=make, metadata={_REGISTRY: registry})


def build(cls: type[T], values: object, where: str = "") -> T:
    """Build a settings dataclass from plain YAML values.

    Args:
        cls: The dataclass.
        values: A mapping of its fields, or settings of that class, which are given back.
        where: Dotted key of this mapping, for messages.

    Raises:
        VitreousError: For an unknown key (with the nearest valid one), an ill-typed value, one out
            of its range, a missing key, or a value that the dataclass refuses.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, dict):
        raise VitreousError(f"{where or cls.__name__}: expected a mapping, found {_show(values)}")
    fields = _fields(cls)
    values = {current_name(key, fields): value for key, value in values.items()}
    for key in values:
        if key not in fields:
            raise VitreousError(f"unknown key '{_join(where, key)}'; {nearest(str(key), fields)}")
    needed = (n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING)
    if missing := [_join(where, name) for name in needed if name not in values]:
        raise MissingKeysError(missing)
    hints = typing.get_type_hints(cls, include_extras=True)
    arguments = {
        name: _build_field(fields[name], hints[name], value, _join(where, name))
        for name, value in values.items()
    }
    try:
        return cls(**arguments)
    except ValueError as error:
        raise VitreousError(f"{where or cls.__name__}: {error}") from error


def _fields(settings: Any) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a settings dataclass (or of an instance) that are given to it, by name."""
    return {field.name: field for field in dataclasses.fields(settings) if field.init}


def _build_field(field: dataclasses.Field[Any], kind: object, value: object, where: str) -> object:
    registry = field.metadata.get(_REGISTRY)
    if registry is None:
        return convert(kind, value, where)
    if typing.get_origin(kind) is dict:
        return _build_parts(registry, value, where)
    return _build_part(registry, value, where)


def _build_parts(registry: Registry[type[T]], values: object, where: str) -> dict[str, T]:
    if not isinstance(values, dict):
        raise VitreousError(f"{where}: expected a mapping of names, found {_show(values)}")
    return {
        name: build(_lookup(registry, name, where), settings or {}, _join(where, name))
        for name, settings in values.items()
        if settings is not False
    }


def _build_part(registry: Registry[type[T]], value: object, where: str) -> T | None:
    if value is None or value == "none":
        return None
    if registry.holds(value):
        return typing.cast(T, value)
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        raise VitreousError(f"{where}: expected a name or a mapping, found {_show(value)}")
    if "name" not in value:
        raise VitreousError(f"missing key '{where}.name'; {nearest('', registry)}")
    settings = {k: v for k, v in value.items() if k != "name"}
    return build(_lookup(registry, value["name"], where), settings, where)


def _lookup(registry: Registry[type[T]], name: object, where: str) -> type[T]:
    if not isinstance(name, str) or name not in registry:
        close = nearest(str(name), registry)
        raise VitreousError(f"{where}: unknown {registry.kind} '{name}'; {close}")
    return registry[name]


def convert(kind: object, value: object, where: str) -> object:
    """Check one plain value against a type annotation, with the few conversions YAML needs.

    Raises:
        VitreousError: For a value that does not fit; says what was expected.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _convert_annotated(arguments, value, where)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is Literal:
        return _convert_literal(arguments, value, where)
    if origin in (list, tuple):
        return origin(_convert_sequence(origin, arguments, value, where))
    if origin is dict:
        return _convert_mapping(arguments[1], value, where)
    return _convert_plain(kind, value, where)


def _convert_annotated(arguments: tuple[object, ...], value: object, where: str) -> object:
    converted = convert(arguments[0], value, where)
    for note in arguments[1:]:
        if isinstance(note, Range):
            note.check(converted, where)
    return converted


def _convert_union(choices: tuple[object, ...], value: object, where: str) -> object:
    if value is None and type(None) in choices:
        return None
    choices = tuple(choice for choice in choices if choice is not type(None))
    for choice in choices[:-1]:
        try:
            return convert(choice, value, where)
        except VitreousError:
            continue
    return convert(choices[-1], value, where)


def _convert_literal(choices: tuple[object, ...], value: object, where: str) -> object:
    if value in choices:
        return value
    renamed = RENAMED_VALUES.get(value) if isinstance(value, str) else None
    if renamed is None or renamed not in choices:
        valid = nearest(str(value), map(str, choices))
        raise VitreousError(f"{where}: found {_show(value)}; {valid}")
    warn_renamed(str(value), renamed)
    return renamed


def _convert_sequence(
    origin: type, kinds: tuple[object, ...], value: object, where: str
) -> list[object]:
    if not isinstance(value, (list, tuple)):
        raise VitreousError(f"{where}: expected a list, found {_show(value)}")
    if origin is list or (len(kinds) == 2 and kinds[1] is Ellipsis):
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise VitreousError(f"{where}: expected {len(kinds)} values, found {len(value)}")
    return [convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value))]


def _convert_mapping(kind: object, value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise VitreousError(f"{where}: expected a mapping, found {_show(value)}")
    return {str(k): convert(kind, v, _join(where, k)) for k, v in value.items()}


def _convert_plain(kind: Any, value: object, where: str) -> object:
    if kind in (Any, object):
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value, where)
    if kind is float:
        return _to_float(value, where)
    if kind in (Path, str) and isinstance(value, (str, Path)):
        if "\0" in str(value):
            raise VitreousError(f"{where}: expected text, found a NUL character in it")
        if kind is Path:
            check_path(value, where)
        return kind(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise VitreousError(f"{where}: expected {kind.__name__}, found {_show(value)}")
    return value


def _to_float(value: object, where: str) -> float:
    """Accept finite numbers, and text such as `2/255` or `3e-6` (which YAML 1.1 reads as text)."""
    try:
        if isinstance(value, str):
            numerator, slash, denominator = value.partition("/")
            number = float(numerator) / float(denominator) if slash else float(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            number = float(value)
        else:
            raise ValueError
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise VitreousError(
            f"{where}: expected a number (2/255 is one too), found {_show(value)}"
        ) from error
    if not math.isfinite(number):
        raise VitreousError(f"{where}: expected a finite number, found {number}")
    return number


def parse_number(text: str, where: str = "number") -> float:
    """Read a finite number from the command line: `0.0078`, `2e-3` or `2/255`."""
    return _to_float(text, where)


def check_ranges(settings: object, name: typing.Callable[[str], str] = str) -> None:
    """Check every field of a dataclass, and of those that it holds, against its range.

    Args:
        settings: An instance.
        name: How messages call a field of this dotted key.

    Raises:
        VitreousError: For a number out of its range.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for key in _fields(settings):
        value = getattr(settings, key)
        if dataclasses.is_dataclass(value):
            check_ranges(value, lambda inner, key=key: name(f"{key}.{inner}"))
        for bounds in ranges_of(hints[key]):
            bounds.check(value, name(key))


def check_paths(settings: object, name: typing.Callable[[str], str] = str) -> None:
    """Check every path that a dataclass holds, and those that it holds, as `check_path` does.

    Args:
        settings: An instance.
        name: How messages call a field of this dotted key.

    Raises:
        VitreousError: For what is no path.
    """
    for key in _fields(settings):
        value = getattr(settings, key)
        if dataclasses.is_dataclass(value):
            check_paths(value, lambda inner, key=key: name(f"{key}.{inner}"))
        for path in value if isinstance(value, tuple | list) else (value,):
            if isinstance(path, Path):
                check_path(path, name(key))


def ranges_of(kind: object) -> list[Range]:
    """The ranges that a type annotation declares, also within `… | None`."""
    if isinstance(kind, Range):
        return [kind]
    parts = typing.get_args(kind) if typing.get_origin(kind) is not Literal else ()
    return [bounds for part in parts for bounds in ranges_of(part)]


def plain(settings: object) -> Any:
    """Turn settings back into plain YAML values; `build` of the result gives equal settings."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {
            name: _plain_field(field, getattr(settings, name))
            for name, field in _fields(settings).items()
        }
    if isinstance(settings, dict):
        return {k: plain(v) for k, v in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [plain(v) for v in settings]
    return str(settings) if isinstance(settings, Path) else settings


def _plain_field(field: dataclasses.Field[Any], value: object) -> object:
    registry = field.metadata.get(_REGISTRY)
    if registry is None or value is None or isinstance(value, dict):
        return plain(value)
    return {"name": registry.name_of(value), **plain(value)}


def describe(settings: object, where: str = "") -> list[str]:
    """One line for each setting: its key, value, type and range."""
    hints = typing.get_type_hints(type(settings), include_extras=True)
    lines = []
    for name, field in _fields(settings).items():
        value, key = getattr(settings, name), _join(where, name)
        if dataclasses.is_dataclass(value):
            lines += describe(value, key)
        elif _REGISTRY in field.metadata and isinstance(value, dict):
            lines += [line for part in value for line in describe(value[part], f"{key}.{part}")]
        else:
            words = "".join(f", {bounds}" for bounds in ranges_of(hints[name]))
            lines.append(f"--{key} {plain(value)}  ({_type_name(hints[name])}{words})")
    return lines


def _type_name(kind: object) -> str:
    """A type annotation in the words of a reader: `int`, `a or b`, `list of float`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(a) for a in arguments)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (list, tuple):
        return f"list of {_type_name(arguments[0])}"
    names = {type(None): "none", str: "text", Path: "path", bool: "true or false"}
    return names.get(kind) or getattr(origin or kind, "__name__", str(kind))


def read_yaml(path: Path) -> Values:
    """Read a YAML mapping.

    Raises:
        VitreousError: If the file is missing, is not YAML, or is not a mapping.
    """
    values = parse_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        raise VitreousError(f"{path}: expected a mapping, found {_show(values)}")
    return values


def to_yaml(settings: object) -> str:
    """Write settings as YAML text."""
    import yaml

    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True)


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _show(value: object) -> str:
    return f"{type(value).__name__} {shorten(repr(value))}"
