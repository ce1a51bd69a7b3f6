"""Every command line of the README, the guides and `--help` is one that the parser takes."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from vitreous.cli import COMMANDS, read_command
from vitreous.config import Values
from vitreous.training import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def command_lines(text: str) -> list[str]:
    """What follows `vitreous` in code blocks and in `code`, continued lines joined."""
    text = re.sub(r"\s*\\\n\s*", " ", text)
    lines = re.findall(r"^\s*(?:\$ )?vitreous ([a-z]+ .*)$", text, re.M)
    return [line.split(" # ")[0] for line in lines + re.findall(r"`vitreous ([a-z]+ [^`]*)`", text)]


def documented() -> list[tuple[str, str]]:
    pages = [(page.name, page.read_text(encoding="utf-8")) for page in PAGES]
    for name in COMMANDS:
        module = importlib.import_module(f"vitreous.commands.{name}")
        text = re.sub(r"\n {8}", " ", module.__doc__ or "")
        pages.append((f"{name} --help", text))
    return [(name, line) for name, text in pages for line in command_lines(text)]


def is_example(line: str) -> bool:
    """Whether a line is meant to be typed, not a form with names to fill in or `--help`."""
    words = line.split()
    form = words[-1] == "…" and not words[-2].startswith("--")
    if words[0] not in COMMANDS or form or words[:2] == words == ["brain", "export"]:
        return False
    return not re.search(r"\b(RECIPE|SUBCOMMAND|NAME|COMMAND)\b|--help", line)


EXAMPLES = [(place, line) for place, line in documented() if is_example(line)]


def test_there_are_examples_of_every_command() -> None:
    assert {line.split()[0] for _, line in EXAMPLES} == {*COMMANDS}
    assert len(EXAMPLES) > 40


@pytest.mark.parametrize(("place", "line"), EXAMPLES, ids=lambda v: str(v)[:40])
def test_an_example_is_taken_by_the_parser(place: str, line: str) -> None:
    name, *arguments = shlex.split(line)
    command = read_command(name, arguments)
    if name in ("train", "sweep") and command.recipe is not None:
        overrides: Values = command.overrides
        load_recipe(command.recipe, overrides)
