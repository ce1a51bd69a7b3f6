"""Plain settings laid over others: nested mappings, and options by dotted key."""

from __future__ import annotations

from typing import Any

from vitreous.errors import VitreousError, shorten
from vitreous.renamed import current_name
from vitreous.yaml_text import parse_yaml

Values = dict[str, Any]
"""A mapping of plain YAML values."""
DEEPEST_KEY = 16


def merge(base: Values, top: Values) -> Values:
    """Lay one plain mapping over another, key by key; a part of another `name` replaces whole."""
    merged = dict(base)
    for key, value in top.items():
        key = current_name(key, merged)
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
        _put(overrides, key, parse_yaml(text, f"--{key} {shorten(text)}"))
    return overrides


def _put(overrides: Values, key: str, value: object) -> None:
    names = key.replace("-", "_").split(".")
    if len(names) > DEEPEST_KEY:
        raise VitreousError(f"--{shorten(key)}: expected at most {DEEPEST_KEY} names in a key")
    node = overrides
    for place, name in enumerate(names[:-1], 1):
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            parent = ".".join(names[:place])
            raise VitreousError(
                f"--{parent} is given the value {shorten(node)} and --{key} a setting of it; "
                "give one of the two"
            )
    if isinstance(node.get(names[-1]), dict) and not isinstance(value, dict):
        raise VitreousError(
            f"--{key} is given the value {shorten(value)} and settings of its own; give one of "
            "the two"
        )
    node[names[-1]] = value
