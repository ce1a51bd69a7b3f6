"""Imports run one way, from commands down to errors, and no module needs itself."""

from __future__ import annotations

import ast
import graphlib
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import vitreous

REPO = Path(__file__).parents[1]
ROOT = Path(vitreous.__file__).parent
# Each room may import those of earlier lines, and itself; rooms of one line do not know each other.
ORDER = (
    ("errors", "allocator"),
    ("disk", "fingerprint", "progress", "ranges", "renamed", "statistics", "text", "yaml_text"),
    ("io", "overrides", "registry"),
    ("locks", "names"),
    ("folders",),
    ("config", "device", "precision", "processes", "provenance", "recipes", "results_format"),
    ("results",),
    ("models",),
    ("data",),
    ("attacks", "attribution"),
    ("masks",),
    ("evaluation",),
    ("brain", "report", "training"),
    ("app", "demo"),
    ("commands",),
    ("cli",),
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package by its dotted name."""
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(("vitreous", *parts)).removesuffix(".__init__")
        yield name, ast.parse(file.read_text(encoding="utf-8"))


def imports(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """Modules of the package that a tree imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vitreous"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in names else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("vitreous."))


def room(name: str) -> str:
    """First part of a dotted name below the package."""
    return f"{name}.".split(".")[1]


def test_rooms_import_only_what_lies_below_them() -> None:
    level = {name: place for place, line in enumerate(ORDER) for name in line}
    known = dict(modules())
    wrong = []
    for name, tree in known.items():
        for target in imports(tree, set(known)):
            here, there = room(name), room(target)
            if here in ("", there):  # the package itself offers names of all rooms
                continue
            if level[there] >= level[here]:
                wrong.append(f"{name} imports {target}")
    assert not wrong


def test_every_room_has_its_place_in_the_order() -> None:
    placed = {name for line in ORDER for name in line}
    assert {room(name) for name, _ in modules()} - {""} <= placed


def without_types(tree: ast.Module) -> ast.Module:
    """A module less the imports that a type checker alone reads."""
    kept = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n))]
    return ast.Module(kept, [])


def test_no_module_needs_itself() -> None:
    known = {name: without_types(tree) for name, tree in modules()}
    graph = {
        name: {t for t in imports(tree, set(known)) if t not in (name, "vitreous")}
        for name, tree in known.items()
        if name != "vitreous"
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


SCRIPTS = [p for room in ("benchmarks", "examples") for p in sorted((REPO / room).rglob("*.py"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(REPO)))
def test_what_benchmarks_and_examples_import_is_there(script: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vitreous"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                known = hasattr(module, alias.name)
                known = known or importlib.util.find_spec(f"{node.module}.{alias.name}") is not None
                missing += [] if known else [f"{node.module}.{alias.name}"]
    assert not missing
