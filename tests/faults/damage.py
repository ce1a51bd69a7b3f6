"""Damage by generation: nested values of which parts are replaced, bytes that are scratched."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from hypothesis import strategies as st

ODD_TEXTS = st.sampled_from(
    [
        *("", "..", "../../x", "/etc/hostname", "\0", "é", "\ud800", "x" * 300, "$\\frac$", "nan"),
        *("1e999", "{}", "[", "null", "\n", "a\tb", "__class__", "9" * 5000, "~", "*", "!!x", "-1"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 50),
    st.floats(),
    ODD_TEXTS,
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every part of a nested value, the whole first."""
    yield path
    pairs: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list | tuple):
        pairs = enumerate(value)
    for key, inner in pairs:
        yield from places(inner, (*path, key))


@st.composite
def changed(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A right value of which some parts are replaced, dropped or added."""
    made = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(list(places(made))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                made = draw(VALUES)
            continue
        parent = made
        for key in path[:-1]:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "drop", "add"]))
        if how == "drop" and isinstance(parent, dict):
            del parent[path[-1]]
        elif how == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=8))] = draw(VALUES)
        else:
            parent[path[-1]] = draw(VALUES)
    return made


@st.composite
def scratched(draw: st.DrawFn, content: bytes, most: int = 4) -> bytes:
    """Bytes of which some are overwritten, removed or repeated."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, max(len(made) - 1, 0)))
        length = draw(st.integers(1, 12))
        how = draw(st.sampled_from(["over", "cut", "repeat", "end"]))
        if how == "over":
            made[start : start + length] = draw(st.binary(min_size=length, max_size=length))
        elif how == "cut":
            del made[start : start + length]
        elif how == "repeat":
            made[start:start] = made[start : start + length] * draw(st.integers(1, 20))
        else:
            del made[start:]
    return bytes(made)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def as_yaml(value: Any) -> bytes:
    text = yaml.safe_dump(json.loads(json.dumps(value)), allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")


def structured(value: Any, write: Callable[[Any], bytes] = as_json) -> st.SearchStrategy[bytes]:
    """A file of a nested value: parts replaced, or bytes scratched."""
    return st.one_of(changed(value).map(write), scratched(write(value)))
