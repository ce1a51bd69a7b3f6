"""One small error in a module's source at a time: where they can be, and the sources with them."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {"min": "max", "any": "all", "sum": "mean", "amin": "amax", "argmin": "argmax"}
NAMES |= {"zeros": "ones", "zeros_like": "ones_like", "floor": "ceil", "clamp_min": "clamp_max"}
NAMES |= {new: old for old, new in NAMES.items()}
DROPPED = {"detach", "abs", "sign", "sqrt", "clamp", "clip", "clamp_", "relu", "sort"}
PASSED_OVER = {"annotation", "returns", "decorator_list", "bases", "type_params"}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A source with one error.

    Attributes:
        line: Of the source.
        before: The expression or statement that is changed.
        after: What it is changed to.
        source: The whole module with the change.
    """

    line: int
    before: str
    after: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Make all mutants of a module, in the order of its text."""
    tree = ast.parse(source)
    return [_made(tree, node, change) for node, change in _changes(tree)]


Change = Callable[[], Callable[[], None]]


def _made(tree: ast.Module, node: ast.AST, change: Change) -> Mutant:
    before = ast.unparse(node)
    undo = change()
    made = Mutant(getattr(node, "lineno", 0), before, ast.unparse(node), ast.unparse(tree))
    undo()
    return made


def _set(owner: Any, name: str, value: Any) -> Change:
    """Set an attribute, or an item of a list; the change returns how to undo it."""

    def change() -> Callable[[], None]:
        if isinstance(owner, list):
            old, owner[int(name)] = owner[int(name)], value
            return lambda: owner.__setitem__(int(name), old)
        old = getattr(owner, name)
        setattr(owner, name, value)
        return lambda: setattr(owner, name, old)

    return change


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, Change]]:
    """What can be changed at a node and below it; messages, types and docstrings cannot."""
    yield from ((node, change) for change in _at(node))
    if isinstance(node, ast.Raise | ast.JoinedStr) or _is_type(node):
        return
    for name, value in ast.iter_fields(node):
        if name in PASSED_OVER or (isinstance(node, ast.AnnAssign) and name == "target"):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_text(child):
                continue
            if isinstance(value, list) and isinstance(child, ast.Raise | ast.Expr):
                yield node, _set(value, str(index), ast.Pass())
            yield from _changes(child)


def _is_type(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("Literal", "Annotated", "Registry")
    )


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _at(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp():
            if type(node.op) in OPERATORS and not _joins_text(node):
                yield _set(node, "op", OPERATORS[type(node.op)]())
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                yield _set(node.ops, str(index), OPERATORS[type(operator)]())
        case ast.UnaryOp(op=ast.USub()):
            yield _set(node, "op", ast.UAdd())
        case ast.UnaryOp(op=ast.Not() | ast.Invert()):
            yield _set(node, "operand", ast.UnaryOp(node.op, node.operand))
        case ast.Constant():
            if (value := _other(node.value)) is not None:
                yield _set(node, "value", value)
        case ast.If() | ast.IfExp() | ast.While() if not _turned_anyway(node.test):
            yield _set(node, "test", ast.UnaryOp(ast.Not(), node.test))
        case ast.Call():
            yield from _of_call(node)


def _turned_anyway(test: ast.expr) -> bool:
    """Whether another change of a condition is its opposite."""
    match test:
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Compare(ops=[ast.Is() | ast.IsNot() | ast.In() | ast.NotIn() | ast.Eq()]):
            return True
    return False


def _joins_text(node: ast.AST) -> bool:
    return any(isinstance(n, ast.JoinedStr) or _is_string(n) for n in ast.iter_child_nodes(node))


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    # A text with spaces is a message.
    return f"XX{value}XX" if isinstance(value, str) and " " not in value else None


def _of_call(node: ast.Call) -> Iterator[Change]:
    """A keyword left out, another function of the same form, a step passed over."""
    for index, keyword in enumerate(node.keywords):
        boolean = isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool)
        if keyword.arg not in (None, "device") and not boolean:
            rest = [k for i, k in enumerate(node.keywords) if i != index]
            yield _set(node, "keywords", rest)
    match node.func:
        case ast.Name(id=name) if name in NAMES:
            yield _set(node.func, "id", NAMES[name])
        case ast.Attribute(attr=name) if name in NAMES:
            yield _set(node.func, "attr", NAMES[name])
        case ast.Attribute(attr=name) if name in DROPPED:
            yield _passed_over(node, node.func)


def _passed_over(node: ast.Call, function: ast.Attribute) -> Change:
    """`x.f(…)` becomes `x`, and `module.f(x, …)` becomes `x`."""
    module = isinstance(function.value, ast.Name) and function.value.id in ("torch", "np", "F")
    kept = node.args[0] if module and node.args else function.value
    identity = ast.Lambda(
        ast.arguments([], [ast.arg("value")], None, [], [], None, []), ast.Name("value")
    )

    def change() -> Callable[[], None]:
        old = node.func, node.args, node.keywords
        node.func, node.args, node.keywords = identity, [kept], []

        def undo() -> None:
            node.func, node.args, node.keywords = old

        return undo

    return change
