"""Typed settings from YAML: strict about names and types, with overrides by dotted key.

Settings are frozen dataclasses. `build` turns plain YAML values into them and refuses what does
not fit, naming the key and the nearest valid one; `plain` turns them back. A field of type
`dict[str, Part]` whose metadata holds a registry (see `parts`) is built by name.
"""

from __future__ import annotations

import dataclasses
import types
import typing
import warnings
from collections.abc import Container
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from vitreous.errors import VitreousError, nearest
from vitreous.registry import Registry

T = TypeVar("T")
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


def warn_renamed(old: str, new: str) -> None:
    """Say once what a word of an older version is called now."""
    warnings.warn(f"'{old}' is now called '{new}'", FutureWarning, stacklevel=3)


def parts(registry: Registry[Any]) -> Any:
    """Declare a field `dict[str, Part]`: name in the registry → that part's settings."""
    return dataclasses.field(default_factory=dict, metadata={_REGISTRY: registry})


def part(registry: Registry[Any], default: str | None = None) -> Any:
    """Declare a field that holds one part: a mapping with its `name` and its settings, or null."""

    def make() -> Any:
        return None if default is None else registry[default]()

    return dataclasses.field(default_factory=make, metadata={_REGISTRY: registry})


def build(cls: type[T], values: Any, where: str = "") -> T:
    """Build a settings dataclass from plain YAML values.

    Args:
        cls: The dataclass.
        values: A mapping of its fields.
        where: Dotted key of this mapping, for messages.

    Raises:
        VitreousError: For an unknown key (with the nearest valid one), an ill-typed value, a
            missing key, or a value that the dataclass refuses.
    """
    if dataclasses.is_dataclass(values) and isinstance(values, cls):
        return values
    if not isinstance(values, dict):
        raise VitreousError(f"{where or cls.__name__}: expected a mapping, found {_show(values)}")
    kind: Any = cls
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    values = {_current_name(key, fields): value for key, value in values.items()}
    for key in values:
        if key not in fields:
            raise VitreousError(f"unknown key '{_join(where, key)}'; {nearest(str(key), fields)}")
    hints = typing.get_type_hints(cls)
    arguments = {}
    for name, value in values.items():
        key = _join(where, name)
        registry = fields[name].metadata.get(_REGISTRY)
        if registry is None:
            arguments[name] = convert(hints[name], value, key)
        elif typing.get_origin(hints[name]) is dict:
            arguments[name] = _build_parts(registry, value, key)
        else:
            arguments[name] = _build_part(registry, value, key)
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in arguments:
            raise VitreousError(f"missing key '{_join(where, name)}': it has no default")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise VitreousError(f"{where or cls.__name__}: {error}") from error


def _current_name(key: str, fields: Container[str]) -> str:
    """The present name of a key that was renamed; every other key as it is."""
    new = RENAMED_KEYS.get(key)
    if key in fields or new is None or new not in fields:
        return key
    warn_renamed(key, new)
    return new


def _build_parts(registry: Registry[Any], values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise VitreousError(f"{where}: expected a mapping of names, found {_show(values)}")
    return {
        name: build(_lookup(registry, name, where), settings or {}, _join(where, name))
        for name, settings in values.items()
        if settings is not False
    }


def _build_part(registry: Registry[Any], value: Any, where: str) -> Any:
    if value is None or value == "none":
        return None
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        if any(value.__class__ is registry[name] for name in registry):
            return value
        raise VitreousError(f"{where}: expected a name or a mapping, found {_show(value)}")
    if "name" not in value:
        raise VitreousError(f"missing key '{where}.name'; {nearest('', registry)}")
    settings = {k: v for k, v in value.items() if k != "name"}
    return build(_lookup(registry, value["name"], where), settings, where)


def _lookup(registry: Registry[Any], name: str, where: str) -> Any:
    if name not in registry:
        raise VitreousError(f"{where}: unknown {registry.kind} '{name}'; {nearest(name, registry)}")
    return registry[name]


def convert(kind: Any, value: Any, where: str) -> Any:
    """Check one plain value against a type annotation, with the few conversions YAML needs."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        choices = [a for a in arguments if a is not type(None)]
        for choice in choices:
            try:
                return convert(choice, value, where)
            except VitreousError:
                if choice is choices[-1]:
                    raise
    if origin is Literal:
        if value not in arguments and RENAMED_VALUES.get(value) in arguments:
            warn_renamed(value, RENAMED_VALUES[value])
            return RENAMED_VALUES[value]
        if value not in arguments:
            options = nearest(str(value), map(str, arguments))
            raise VitreousError(f"{where}: found {_show(value)}; {options}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            raise VitreousError(f"{where}: expected a list, found {_show(value)}")
        kinds = arguments
        if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
            kinds = (arguments[0],) * len(value)
        if len(kinds) != len(value):
            raise VitreousError(f"{where}: expected {len(kinds)} values, found {len(value)}")
        return origin(convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value)))
    if origin is dict:
        if not isinstance(value, dict):
            raise VitreousError(f"{where}: expected a mapping, found {_show(value)}")
        return {str(k): convert(arguments[1], v, _join(where, k)) for k, v in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value, where)
    if kind is float:
        return _to_float(value, where)
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    if kind is str and isinstance(value, Path):
        return str(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise VitreousError(f"{where}: expected {kind.__name__}, found {_show(value)}")
    return value


def _to_float(value: Any, where: str) -> float:
    """Accept numbers, and text such as `2/255` or `3e-6` (which YAML 1.1 reads as text)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            numerator, slash, denominator = value.partition("/")
            return float(numerator) / float(denominator) if slash else float(value)
        except (ValueError, ZeroDivisionError):
            pass
    raise VitreousError(f"{where}: expected a number (2/255 is one too), found {_show(value)}")


def parse_number(text: str) -> float:
    """Read a number from the command line: `0.0078`, `2e-3` or `2/255`."""
    return _to_float(text, "number")


def plain(settings: Any) -> Any:
    """Turn settings back into plain YAML values; `build` of the result gives equal settings."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        values = {}
        for field in dataclasses.fields(settings):
            if not field.init:
                continue
            value = getattr(settings, field.name)
            registry = field.metadata.get(_REGISTRY)
            values[field.name] = plain(value)
            if registry is not None and value is not None and not isinstance(value, dict):
                values[field.name] = {"name": registry.name_of(value), **values[field.name]}
        return values
    if isinstance(settings, dict):
        return {k: plain(v) for k, v in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [plain(v) for v in settings]
    return str(settings) if isinstance(settings, Path) else settings


def merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
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


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """Turn `--a.b value --c=value` into a nested mapping; values are read as YAML.

    Raises:
        VitreousError: For an argument that is not of this form.
    """
    overrides: dict[str, Any] = {}
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
        node = overrides
        *parents, leaf = key.replace("-", "_").split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = yaml.safe_load(text)
    return overrides


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        VitreousError: If the file is missing, is not YAML, or is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VitreousError(f"no file at {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise VitreousError(f"{path} is not valid YAML: {detail}") from error
    if not isinstance(values, dict):
        raise VitreousError(f"{path}: expected a mapping, found {_show(values)}")
    return values


def to_yaml(settings: Any) -> str:
    """Write settings as YAML text."""
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True)


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _show(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"
