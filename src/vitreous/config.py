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
import warnings
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import yaml

from vitreous.errors import VitreousError, nearest
from vitreous.ranges import Range
from vitreous.registry import Registry
from vitreous.yaml_text import parse_yaml, read_text

T = TypeVar("T")
Values = dict[str, object]
"""A mapping of plain YAML values."""
_REGISTRY = "registry"
# Words that older recipes and command lines use, and what they are called now.
RENAMED_KEYS = {
    "views": "transforms",
    "probe": "robust_validation",
    "normalisation": "normalization",
    "pictures": "images",
    "picture": "image",
    "strips": "panels",
    "step": "step_size",
    "on_bad": "on_error",
    "pca_pictures": "pca_images",
}
RENAMED_VALUES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
DEEPEST_KEY = 16


def warn_renamed(old: str, new: str) -> None:
    """Say once what a word of an older version is called now."""
    warnings.warn(f"'{old}' is now called '{new}'", FutureWarning, stacklevel=3)


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
    values = {_current_name(key, fields): value for key, value in values.items()}
    for key in values:
        if key not in fields:
            raise VitreousError(f"unknown key '{_join(where, key)}'; {nearest(str(key), fields)}")
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise VitreousError(f"missing key '{_join(where, name)}': it has no default")
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


def _current_name(key: str, fields: Container[str]) -> str:
    """The present name of a key that was renamed; every other key as it is."""
    new = RENAMED_KEYS.get(key)
    if key in fields or new is None or new not in fields:
        return key
    warn_renamed(key, new)
    return new


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


def parse_number(text: str) -> float:
    """Read a finite number from the command line: `0.0078`, `2e-3` or `2/255`."""
    return _to_float(text, "number")


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


def merge(base: Values, top: Values) -> Values:
    """Lay one plain mapping over another, key by key; a part of another `name` replaces whole."""
    merged = dict(base)
    for key, value in top.items():
        key = _current_name(key, merged)
        old = merged.get(key)
        if not (isinstance(old, dict) and isinstance(value, dict)):
            merged[key] = value
        elif value.get("name", old.get("name")) == old.get("name"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def parse_overrides(arguments: list[str]) -> Values:
    """Turn `--a.b value --c=value` into a nested mapping; values are read as YAML.

    Raises:
        VitreousError: For an argument that is not of this form, a value that is no YAML, or a key
            that is given a value and settings of its own.
    """
    overrides: Values = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise VitreousError(f"expected --key.sub value, found '{argument}'")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise VitreousError(f"--{key} has no value; write --{key} VALUE")
            text = rest.pop(0)
        _put(overrides, key, parse_yaml(text, f"--{key} {_shorten(text)}"))
    return overrides


def _put(overrides: Values, key: str, value: object) -> None:
    names = key.replace("-", "_").split(".")
    if len(names) > DEEPEST_KEY:
        raise VitreousError(f"--{_shorten(key)}: expected at most {DEEPEST_KEY} names in a key")
    node = overrides
    for place, name in enumerate(names[:-1], 1):
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            parent = ".".join(names[:place])
            raise VitreousError(
                f"--{parent} is given the value {_shorten(node)} and --{key} a setting of it; "
                "give one of the two"
            )
    if isinstance(node.get(names[-1]), dict) and not isinstance(value, dict):
        raise VitreousError(
            f"--{key} is given the value {_shorten(value)} and settings of its own; give one of "
            "the two"
        )
    node[names[-1]] = value


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
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True)


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _show(value: object) -> str:
    return f"{type(value).__name__} {_shorten(repr(value))}"


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
