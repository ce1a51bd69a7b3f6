"""From arguments to a command: tyro's parser, ranges in `--help`, mistakes in one line.

A command is a dataclass (or a union of them, for subcommands). What is told here is what every
command shares; no command parses arguments of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TextIO, Union, cast

import docstring_parser
import tyro

from vitreous.commands.options import RecipeOptions
from vitreous.config import check_paths, check_ranges, parse_overrides, ranges_of
from vitreous.errors import VitreousError, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Runnable(Protocol):
    """A command that was built from its arguments."""

    def run(self) -> int | None:
        """Do it; returns the exit status, or nothing for success."""
        ...


def parse(kind: Any, arguments: list[str], program: str, description: str | None) -> Runnable:
    """Build a command from the arguments of a command line.

    Args:
        kind: A dataclass, or a union of dataclasses that are subcommands.
        arguments: What was typed after the command's name.
        program: How usage lines call the command.
        description: Text above the options in `--help`.

    Raises:
        VitreousError: For an unknown option, one without a value, a value that does not fit or is
            out of its range; one line.
        SystemExit: After `--help`.
    """
    recipe = isinstance(kind, type) and issubclass(kind, RecipeOptions)
    own, others = split_options(kind, arguments) if recipe else (arguments, [])
    _refuse_empty_paths(own, kind)
    show_ranges(kind)
    if {"-h", "--help"} & {*own}:
        join_help(kind)
    with _one_line(), _quick_defaults():
        command, rest = tyro.cli(
            kind,
            prog=program,
            args=own,
            description=_joined(description or ""),
            return_unknown_args=True,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    _refuse(rest, kind)
    name = _naming(command)
    check_ranges(command, name)
    check_paths(command, name)
    return dataclasses.replace(command, overrides=parse_overrides(others)) if recipe else command


def option_name(key: str) -> str:
    """How a field is called on the command line."""
    return "--" + key.replace("_", "-")


def _naming(command: object) -> Callable[[str], str]:
    """How the fields of a command are called: options by their names, arguments by theirs."""
    hints = typing.get_type_hints(type(command), include_extras=True)
    plain = {key for key, hint in hints.items() if tyro.conf.Positional in annotation_notes(hint)}
    flat = tuple(f"{key}." for key, hint in hints.items() if "name=''" in str(hint))

    def name(key: str) -> str:
        for prefix in flat:
            key = key.removeprefix(prefix)
        return key if key in plain else option_name(key)

    return name


def option_value(arguments: list[str], option: str, default: str | None = None) -> str | None:
    """The value that an option is given, read before all others."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option:
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            return value if equals else (following or default)
    return default


def split_options(kind: type, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part a command's own arguments from the settings of a recipe, which are all others.

    Returns:
        The command's own arguments, and the others, each with the value that follows it.
    """
    own_names = {"-h", "--help", *options_of(kind)}
    own: list[str] = []
    others: list[str] = []
    target = own
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        option = name.startswith("--") or name == "-h"
        if option:
            target = own if name in own_names else others
        target.append(argument)
        if target is others and (not option or equals):
            target = own  # the setting has its value
    return own, others


def options_of(
    kind: object, prefix: str = "", of: Callable[[object], bool] = lambda hint: True
) -> Iterator[str]:
    """Every option of a command, subcommands included, as it is written.

    Args:
        kind: The command.
        prefix: What goes before each name.
        of: Of which types.
    """
    for choice in _choices(kind):
        hints = typing.get_type_hints(choice, include_extras=True)
        for field in dataclasses.fields(choice):
            inner = _bare(hints[field.name])
            if dataclasses.is_dataclass(inner):
                below = "" if "name=''" in str(hints[field.name]) else f"{prefix}{field.name}."
                yield from options_of(inner, below, of)
            elif not of(hints[field.name]):
                continue
            elif inner is bool and field.default is True:
                yield option_name(f"{prefix}no_{field.name}")
            else:
                yield option_name(prefix + field.name)


def show_ranges(kind: object) -> None:
    """Have tyro say the ranges of a command's options, and of the settings in them, in `--help`.

    tyro reads the hint of an option from its annotation, so it is put there, once.
    """
    for choice in _choices(kind):
        for owner in filter(dataclasses.is_dataclass, choice.__mro__):
            hints = typing.get_type_hints(owner, include_extras=True)
            for name in owner.__annotations__:  # its own: not those of its bases
                owner.__annotations__[name] = _with_hint(hints[name])
                if dataclasses.is_dataclass(inner := _bare(hints[name])):
                    show_ranges(inner)


def join_help(kind: object) -> None:
    """Have tyro say what a docstring tells of an option without the lines that it is written in.

    tyro keeps a line that is indented, as those of a docstring are, and cuts it again.
    """
    for choice in _choices(kind):
        for owner in filter(dataclasses.is_dataclass, choice.__mro__):
            hints = typing.get_type_hints(owner, include_extras=True)
            for param in docstring_parser.parse_from_object(owner).params:
                name, told = param.arg_name, " ".join((param.description or "").split())
                if told and name in owner.__annotations__:
                    owner.__annotations__[name] = annotate(hints[name], tyro.conf.arg(help=told))
            for name in owner.__annotations__:
                if dataclasses.is_dataclass(inner := _bare(hints[name])):
                    join_help(inner)


def _with_hint(annotation: object) -> object:
    if any(isinstance(note, _Shown) for note in annotation_notes(annotation)):
        return annotation
    words = " and ".join(map(str, ranges_of(annotation)))
    shown = tyro.conf.arg(help_behavior_hint=_hint(words), metavar=_metavar(annotation))
    return annotate(annotation, shown, _Shown())


def _metavar(annotation: object) -> str | None:
    """What stands for the value of an option that may be left out; None where tyro says it well.

    tyro has `{None}|PATH`, but nobody types None.
    """
    kinds = [_bare(kind) for kind in typing.get_args(_bare(annotation))]
    if type(None) not in kinds or len(kinds) != 2:
        return None
    (kind,) = (kind for kind in kinds if kind is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(map(str, typing.get_args(kind))) + "}"
    return kind.__name__.upper() if isinstance(kind, type) else None


def annotate(annotation: object, *notes: object) -> object:
    """Annotate a type that is known at run time only."""
    annotated: Any = Annotated
    return annotated[(annotation, *notes)]


class _Shown:
    """Marks an annotation that has its hint."""


def annotation_notes(annotation: object) -> tuple[object, ...]:
    """What is annotated to a type."""
    return getattr(annotation, "__metadata__", ())


def _hint(words: str) -> Callable[[str], str]:
    def hint(default: str) -> str:
        told = [words] if words else []
        left_out = "optional" if default in ("None", "") else f"default: {default}"
        return f"({'; '.join([*told, left_out])})"

    return hint


def _choices(kind: object) -> list[type[DataclassInstance]]:
    union = typing.get_origin(kind) in (Union, types.UnionType)
    choices = [_bare(choice) for choice in typing.get_args(kind)] if union else [kind]
    return cast("list[type[DataclassInstance]]", choices)


def _bare(hint: object) -> object:
    """A type without what is annotated to it."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _refuse_empty_paths(arguments: list[str], kind: object) -> None:
    """Refuse the empty text for a path: pathlib takes it for the folder that one stands in."""
    paths = set(options_of(kind, of=_takes_path))
    option = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("--"):
            option = name
        if not (value if equals and argument.startswith("--") else argument) and (
            option in paths or not option
        ):
            raise VitreousError(f"{option or 'an argument'} is empty; give a name or a path")


def _takes_path(hint: object) -> bool:
    return hint is Path or any(_takes_path(part) for part in typing.get_args(hint))


def _refuse(rest: list[str], kind: object) -> None:
    options = [argument.partition("=")[0] for argument in rest if argument.startswith("-")]
    if options:
        name = options[0].lstrip("-")
        names = [option.lstrip("-") for option in options_of(kind)]
        raise VitreousError(f"unknown option '{options[0]}'; {nearest(name, names)}")
    if rest:
        raise VitreousError(f"expected no more arguments, found '{rest[0]}'")


@contextlib.contextmanager
def _quick_defaults() -> Generator[None]:
    """Let tyro see without typeguard that defaults fit their types.

    To import typeguard takes a quarter of the time of a help text. tyro needs it for unions that
    are written with a bar, and for options of several values; all others are answered by tyro.
    """
    resolver: Any = getattr(tyro, "_resolver", None)
    asked = getattr(resolver, "is_instance", None)
    if asked is None:  # another make of tyro, which may take its time
        yield
        return

    def fits(kind: Any, value: Any) -> bool:
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        if type(value).__module__.startswith("tyro."):
            return True  # what stands for no default
        if origin in (Union, types.UnionType):
            return any(fits(part, value) for part in parts)
        if isinstance(origin, type) and isinstance(value, origin) and not value:
            return True  # an empty list or mapping
        if origin is not tuple or parts[1:] != (...,):
            return asked(kind, value)
        return isinstance(value, tuple) and all(fits(parts[0], part) for part in value)

    resolver.is_instance = fits
    try:
        yield
    finally:
        resolver.is_instance = asked


@contextlib.contextmanager
def _one_line() -> Generator[None]:
    """Turn the box that tyro draws about a mistake into one line, and cut the lines of its help."""
    told = io.StringIO()
    screen = _Screen(sys.stdout)
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(screen):
            yield
    except SystemExit as end:
        if end.code:
            raise VitreousError(_sentence(told.getvalue())) from None
        print(_cut(screen.text(), min(shutil.get_terminal_size().columns, 100)), end="")
        raise


class _Screen(io.TextIOWrapper):
    """Keeps what is written, and is drawn to (boxes, colors) as the stream that it stands for."""

    def __init__(self, stream: TextIO):
        # A stream that names none takes any letter, and gets no boxes: tyro compares with "utf-8".
        self.kept, self.stream = io.BytesIO(), stream
        encoding = stream.encoding or "utf8"
        super().__init__(self.kept, encoding, "replace", newline="\n", write_through=True)

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self.stream.isatty()

    def text(self) -> str:
        """What was written."""
        return self.kept.getvalue().decode(self.encoding)


def _joined(text: str) -> str:
    """Paragraphs in one line each, whatever letter a line of theirs begins with; examples stay."""
    parts = text.strip().split("\n\n")
    return "\n\n".join(part if "\n " in part else " ".join(part.split()) for part in parts)


def _cut(text: str, width: int) -> str:
    """Paragraphs in lines of a width, which tyro leaves to the terminal; what is drawn stays."""
    lines = [
        textwrap.wrap(line, width, break_on_hyphens=False)
        if len(line) > width and not line.startswith((*" │╭╰", "\x1b"))
        else [line]
        for line in text.split("\n")
    ]
    return "\n".join(itertools.chain.from_iterable(lines))


def _sentence(box: str) -> str:
    """What a box says, without its title, its frame (drawn with lines, or dashes) and its rest."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    texts = itertools.dropwhile(_is_rule, lines[1:])
    sentences = list(itertools.takewhile(lambda line: not _is_rule(line), texts))
    for line in sentences:
        if "Required options" in lines[0] and (missing := re.match(r"--([\w.-]+)(.*)", line)):
            key, value = missing[1].replace("-", "_"), missing[2].strip()
            return f"missing key '{key}': give --{missing[1]} {value}".rstrip()
    return " ".join(sentences) or "the arguments do not fit; see --help"


def _is_rule(line: str) -> bool:
    return not line.strip("-─")
