"""Pages of the reference that are made from the package itself: recipes, commands, parts, Python.

A hook of MkDocs (`mkdocs.yml`): nothing of these pages is written by hand, so nothing of them can
fall behind the code.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from vitreous.attacks.base import ATTACKS
from vitreous.attribution.base import METHODS
from vitreous.cli import COMMANDS, read_command
from vitreous.config import describe, merge, parse_overrides
from vitreous.data.readers.base import READERS
from vitreous.data.transforms.base import TRANSFORMS
from vitreous.errors import MissingKeysError
from vitreous.evaluation.corruptions.base import CORRUPTIONS
from vitreous.evaluation.test_sets.base import TEST_SETS
from vitreous.masks.base import MASK_METHODS
from vitreous.recipes import list_recipes
from vitreous.registry import Registry
from vitreous.training import Recipe, load_recipe
from vitreous.training.adversaries.base import ADVERSARIES
from vitreous.training.objectives.base import OBJECTIVES
from vitreous.training.schedules import SCHEDULES

PARTS: dict[str, Registry[Any]] = {
    "Readers of data": READERS,
    "Transforms": TRANSFORMS,
    "Objectives": OBJECTIVES,
    "Adversaries": ADVERSARIES,
    "Schedules": SCHEDULES,
    "Attacks": ATTACKS,
    "Attribution methods": METHODS,
    "Mask methods": MASK_METHODS,
    "Test sets": TEST_SETS,
    "Corruptions": CORRUPTIONS,
}
SUBCOMMANDS = {"brain": ("score", "layers", "similarity", "behaviour", "export")}
ROOMS = (
    *("", ".models", ".attribution", ".masks", ".training", ".attacks", ".evaluation", ".brain"),
    ".report",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, make in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    return files


def recipes() -> str:
    """Every recipe with what it is, what to expect and all of its settings."""
    lines = ["# Recipes", "", "`vitreous train RECIPE`; any setting is an option.", ""]
    for name in list_recipes():
        recipe = load_with_folders(name)
        lines += [f"## {name}", "", recipe.description, ""]
        lines += [f"*To expect:* {recipe.expect}", ""] if recipe.expect else []
        options = (o for o in describe(recipe) if not o.startswith(("--description", "--expect")))
        lines += ["```text", *options, "```", ""]
    return "\n".join(lines)


def load_with_folders(name: str) -> Recipe:
    """A recipe, with placeholders for the folders that have no default."""
    values: dict[str, Any] = {}
    while True:
        try:
            return load_recipe(name, values)
        except MissingKeysError as error:
            options = (word for key in error.keys for word in (f"--{key}", "PATH"))
            values = merge(values, parse_overrides([*options]))


def commands() -> str:
    """The `--help` of every command."""
    lines = ["# Commands", ""]
    for name, summary in COMMANDS.items():
        lines += [f"## vitreous {name}", "", f"{summary[0].upper()}{summary[1:]}.", ""]
        for words in ((), *((sub,) for sub in SUBCOMMANDS.get(name, ()))):
            lines += ["```text", help_text(name, *words), "```", ""]
    return "\n".join(lines)


def help_text(name: str, *words: str) -> str:
    """What a command prints for `--help`, 100 columns wide and without color."""
    told = io.StringIO()
    os.environ.update(COLUMNS="100", NO_COLOR="1")
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        read_command(name, [*words, "--help"])
    return told.getvalue().strip()


def parts() -> str:
    """Every interchangeable part by its name, with the first sentence of its docstring."""
    lines = ["# Parts", "", "What recipes and options know by name.", ""]
    for title, registry in PARTS.items():
        lines += [f"## {title}", "", "| name | what it is |", "| --- | --- |"]
        lines += [f"| `{name}` | {first_sentence(registry[name])} |" for name in registry]
        lines += [""]
    return "\n".join(lines)


def first_sentence(part: object) -> str:
    """The first paragraph of a docstring, as one cell of a table."""
    own = part if inspect.isclass(part) or inspect.isfunction(part) else type(part)
    text = (inspect.getdoc(own) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def python() -> str:
    """Directives for mkdocstrings: every public name, once, under the first package that has it."""
    lines = ["# Python", "", "The public names, from their docstrings.", ""]
    told: set[str] = set()
    for package in (f"vitreous{room}" for room in ROOMS):
        places = [place for place in public_names(package) if place not in told]
        told.update(places)
        lines += [f"## {package}", "", *(f"::: {place}\n" for place in places)]
    return "\n".join(lines)


def public_names(package: str) -> Iterator[str]:
    """Where each public class and function of a package is defined."""
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield f"{value.__module__}.{value.__qualname__}"


PAGES: dict[str, Callable[[], str]] = {
    "recipes": recipes,
    "commands": commands,
    "parts": parts,
    "python": python,
}
