"""Every numeric setting has a range, and what is out of it is one line, before any work.

The settings are read from the commands and the registries, so that a new one is held to this by
itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tyro.conf import Positional

from faults.bench import Bench, call
from vitreous.cli import COMMANDS
from vitreous.commands.parsing import _bare, _choices, option_name
from vitreous.config import _REGISTRY, ranges_of
from vitreous.masks import MASK_METHODS
from vitreous.ranges import Range
from vitreous.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Number:
    """A setting that holds a number, or several.

    Attributes:
        key: How it is written, on the command line or in a recipe.
        hint: Its annotation.
        before: Arguments that go before it.
    """

    key: str
    hint: Any
    before: tuple[str, ...] = ()

    @property
    def kinds(self) -> set[type]:
        """The types of number that it takes."""
        return {kind for kind in _leaves(self.hint) if kind in (int, float)}

    @property
    def ranges(self) -> list[Range]:
        """The ranges that are declared for it."""
        return ranges_of(self.hint)

    @property
    def several(self) -> bool:
        """Whether it holds a list of numbers."""
        return "uple[" in str(self.hint) or "ist[" in str(self.hint)

    def outside(self) -> list[str]:
        """Numbers next to each bound, far from it, and those that are none."""
        bad = ["nan", "inf", "-inf"]
        for bounds in self.ranges:
            if bounds.at_least is not None:
                bad += [self._next(bounds.at_least, -1), bounds.at_least - 1000]
            if bounds.above is not None:
                bad += [bounds.above, bounds.above - 1000]
            if bounds.at_most is not None:
                bad += [self._next(bounds.at_most, 1), bounds.at_most * 10 + 10]
            if bounds.below is not None:
                bad += [bounds.below, bounds.below * 10 + 10]
        whole = float not in self.kinds
        return [str(int(v)) if whole and not isinstance(v, str) else f"{v!s}" for v in bad]

    def _next(self, value: float, way: int) -> float:
        """The next number of its type above (1) or below (-1)."""
        return math.nextafter(value, way * math.inf) if float in self.kinds else value + way


def _leaves(hint: Any) -> Iterator[Any]:
    if typing.get_origin(hint) is typing.Literal:
        return
    arguments = typing.get_args(hint)
    if not arguments:
        yield hint
    for argument in arguments:
        yield from _leaves(argument)


def _numbers(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        inner = _bare(hints[field.name])
        if dataclasses.is_dataclass(inner):
            below = "" if "name=''" in str(hints[field.name]) else f"{prefix}{field.name}."
            yield from _numbers(inner, below)
        elif {int, float} & set(_leaves(hints[field.name])) and field.init:
            yield prefix + field.name, hints[field.name]


def _required(cls: Any) -> list[str]:
    """Arguments for what has no default, so that nothing is missing."""
    hints = typing.get_type_hints(cls, include_extras=True)
    arguments = []
    for field in dataclasses.fields(cls):
        if field.default is field.default_factory is dataclasses.MISSING:
            positional = Positional in getattr(hints[field.name], "__metadata__", ())
            positional = positional or "Positional" in str(hints[field.name])
            value = "training.seed=int:0:1" if field.name == "search" else "recipe.yaml"
            arguments += [value] if positional else [option_name(field.name), value]
    return arguments


def of_commands() -> Iterator[Number]:
    """Every option of every command that takes a number."""
    for name in COMMANDS:
        module = importlib.import_module(f"vitreous.commands.{name}")
        for choice in _choices(module.Command):
            union = choice is not module.Command
            hint = next((h for h in typing.get_args(module.Command) if _bare(h) is choice), None)
            sub = [n.name for n in hint.__metadata__] if union and hint else []
            before = (name, *sub, *_required(choice))
            for key, kind in _numbers(choice):
                yield Number(option_name(key), kind, before)


def of_mask_methods() -> Iterator[Number]:
    """Every setting of a mask method that takes a number."""
    for name in MASK_METHODS:
        method = MASK_METHODS[name]
        prompts = ("--boxes", "boxes.csv") if name == "sam" else ()  # boxes or points
        before = ("mask", "images", "--method", name, *_required(method), *prompts)
        for key, kind in _numbers(method):
            yield Number(option_name(key), kind, before)


def of_recipes() -> Iterator[Number]:
    """Every setting of a recipe that takes a number, those of all parts included."""
    train = ("train", "recipe.yaml", "--show")
    for key, kind in _numbers(Recipe):
        yield Number(f"--{key}", kind, train)
    for field, registry, kind in _registries(Recipe, ""):
        for name in registry:
            part = registry[name]
            place = f"{field}.{name}" if typing.get_origin(kind) is dict else field
            before = [*train]
            if typing.get_origin(kind) is not dict:
                before += [f"--{field}.name", name]
            for required in dataclasses.fields(part):
                if required.default is required.default_factory is dataclasses.MISSING:
                    value = "[0, 1]" if required.name in dict(_numbers(part)) else "x"
                    before += [f"--{place}.{required.name}", value]
            for key, hint in _numbers(part):
                yield Number(f"--{place}.{key}", hint, tuple(before))


def _registries(cls: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if registry := field.metadata.get(_REGISTRY):
            yield prefix + field.name, registry, hints[field.name]
        elif dataclasses.is_dataclass(inner := _bare(hints[field.name])):
            yield from _registries(inner, f"{prefix}{field.name}.")


EVERY = [*of_commands(), *of_mask_methods(), *of_recipes()]
IDS = [f"{' '.join(n.before[:2])} {n.key}" for n in EVERY]


def test_the_list_is_whole() -> None:
    keys = {(number.before[0], number.key) for number in EVERY}
    assert {("mask", "--batch-size"), ("mask", "--tau"), ("evaluate", "--generate.steps")} <= keys
    assert {("train", "--optimizer.lr"), ("train", "--objectives.relevance.weight")} <= keys
    assert len(keys) > 150


@pytest.mark.parametrize("number", EVERY, ids=IDS)
def test_every_number_has_a_range(number: Number) -> None:
    assert number.ranges, f"{number.key} has no range: declare one (vitreous.ranges)"


@pytest.mark.parametrize("number", EVERY, ids=IDS)
def test_what_is_out_of_range_is_one_line_that_names_the_setting(
    number: Number, bench_once: Bench
) -> None:
    for value in [*number.outside(), "text", "[1, 2", "{a: 1}", "true"]:
        outcome = call([*number.before, f"{number.key}={value}"], bench_once.root)
        assert outcome.status == 1, f"{number.key} {value} is accepted"
        assert outcome.line.startswith("vitreous: ") and outcome.line.count("\n") == 1
        named = number.key.removeprefix("--")
        told = outcome.line.replace("_", "-")
        assert named.replace("_", "-") in told or value in told, f"{value}: {outcome.line}"
    assert not (bench_once.root / "out").exists()


@pytest.fixture(scope="module")
def bench_once(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(good, tmp_path_factory.mktemp("ranges"))


@functools.cache
def helped(arguments: tuple[str, ...]) -> str:
    """What `--help` or `--settings` prints, an option or setting at the begin of a line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "90")  # one box below the other
        outcome = call([*arguments], Path())
    assert outcome.status == 0, outcome.line
    lines = outcome.shown.replace("│", " ").splitlines()  # framed, or not
    return "\n".join(line.removeprefix("  ") for line in lines)


def asking(number: Number) -> tuple[str, ...]:
    """What prints the settings of a command, or of a recipe that has the part in question."""
    if "--show" not in number.before:
        return (*number.before, "--help")
    part = number.key.rpartition(".")[0]
    given = any(word.startswith(f"{part}.") for word in number.before)
    part_of_many = part.startswith(("--transforms.", "--objectives."))
    more = (part, "{}") if part_of_many and not given else number.before[3:]
    if {"balanced", "upweighted_errors"} & {*more}:
        more = (*more, "--data.source", "generated")
    if "mixed" in more:
        more = (*more, "--data.stream", "generated", "--data.masked", "generated")
    return ("train", "recipe.yaml", "--settings", *more)


def test_help_says_the_ranges_of_numbers_that_are_written_as_text() -> None:
    shown = " ".join(helped(("attack", "model", "--help")).split())
    assert "(at least 0; default: 1/255 2/255 4/255)" in shown
    assert "where not given. (above 0; optional)" in shown


@pytest.mark.parametrize("number", EVERY, ids=IDS)
def test_help_says_the_range_of_every_setting_that_has_one(
    number: Number, bench_once: Bench
) -> None:
    with contextlib.chdir(bench_once.root):
        shown = helped(asking(number))
    _, found, rest = shown.rpartition(f"\n{number.key} ")  # a line of the text may begin so, too
    said = " ".join(rest.partition("\n--")[0].split())
    assert found, f"{number.key} is not told"
    assert all(str(bounds) in said for bounds in number.ranges), said
