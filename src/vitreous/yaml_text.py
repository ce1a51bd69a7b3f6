"""YAML that others wrote: read as plain values only, within bounds, each mistake told in one line.

What is refused beyond what YAML itself refuses: a key that is given twice, values nested deeper
than `MAXIMUM_DEPTH`, and aliases that unfold to more than `MAXIMUM_NODES` values. PyYAML is
imported when something is read: no help text waits for it.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from vitreous.errors import VitreousError

if TYPE_CHECKING:
    import yaml

MAXIMUM_DEPTH = 50
MAXIMUM_NODES = 100_000
MAXIMUM_CHARACTERS = 4_000_000


@functools.cache
def _strict_loader() -> type[yaml.SafeLoader]:
    """The safe loader; a key that is given twice is a mistake."""
    import yaml

    class StrictLoader(yaml.SafeLoader):
        def construct_mapping(
            self, node: yaml.MappingNode, deep: bool = False
        ) -> dict[Hashable, object]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        line = key.start_mark.line + 1
                        raise VitreousError(f"the key '{key.value}' is given twice (line {line})")
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    return StrictLoader


def parse_yaml(text: str, source: str) -> Any:
    """Read plain values (None, numbers, texts, dates, lists and mappings).

    Args:
        text: The YAML.
        source: What messages call it.

    Raises:
        VitreousError: If it is no YAML, or out of bounds.
    """
    import yaml

    if len(text) > MAXIMUM_CHARACTERS:
        raise VitreousError(f"{source}: expected at most {MAXIMUM_CHARACTERS:,} characters of YAML")
    try:
        loader = _strict_loader()(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, 0)
        return loader.construct_document(node)
    except VitreousError as error:
        raise VitreousError(f"{source}: {error}") from error
    except RecursionError as error:
        raise VitreousError(f"{source}: nested deeper than {MAXIMUM_DEPTH} levels") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        detail = " ".join(str(error).split())
        raise VitreousError(f"{source} is not valid YAML: {detail[:300]}") from error


def _count(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """Number of values that a node unfolds to, each alias counted anew."""
    if depth > MAXIMUM_DEPTH:
        raise VitreousError(f"nested deeper than {MAXIMUM_DEPTH} levels")
    if id(node) not in sizes:
        total = 1
        for child in _children(node):
            total += _count(child, sizes, depth + 1)
            if total > MAXIMUM_NODES:
                raise VitreousError(f"unfolds to more than {MAXIMUM_NODES:,} values")
        sizes[id(node)] = total
    return sizes[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
