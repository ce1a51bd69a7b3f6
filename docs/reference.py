"""Pages of the reference that are made from the package itself: recipes, commands, parts, Python.

A hook of MkDocs (`mkdocs.yml`): nothing of these pages is written by hand, so nothing of them can
fall behind the code.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

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
    for name, content in pages():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Call a recipe in its page's menu by what follows its folder; menus are narrow."""
    if page.file.src_uri.startswith("reference/recipes/"):
        for entry in itertools.chain.from_iterable(top.children for top in page.toc):
            entry.title = entry.title.rpartition("/")[2]
    return html


def pages() -> Iterator[tuple[str, str]]:
    """Names of the pages below `reference/`, and what they hold."""
    yield "recipes", recipes()
    for family in families():
        yield f"recipes/{family}", family_page(family)
    yield "commands", commands()
    yield "parts", parts()
    names = names_by_room()
    yield "python", python(names)
    for room, owners in names.items():
        yield f"python/{page_of(room)}", room_page(room, owners)


def families() -> dict[str, list[str]]:
    """Names of recipes by their folder."""
    found: dict[str, list[str]] = {}
    for name in list_recipes():
        found.setdefault(name.partition("/")[0], []).append(name)
    return found


def recipes() -> str:
    """Every recipe and what it is, in a table for each folder."""
    lines = ["# Recipes", "", "`vitreous train RECIPE`; any setting is an option.", ""]
    for family, names in families().items():
        lines += [
            f"## [{family}](recipes/{family}.md)",
            "",
            "| recipe | what it is |",
            "| --- | --- |",
        ]
        for name in names:
            link = f"recipes/{family}.md#{name.replace('/', '')}"
            what = linked(cell(load_with_folders(name).description), "..")
            lines += [f"| [`{name}`]({link}) | {what} |"]
        lines += [""]
    return "\n".join(lines)


def family_page(family: str) -> str:
    """The recipes of a folder: what each is, what to expect and all of its settings."""
    lines = [f"# Recipes of {family}", "", "Any setting is an option of `vitreous train`.", ""]
    for name in families()[family]:
        recipe = load_with_folders(name)
        lines += [f"## {name}", "", linked(recipe.description, "../.."), ""]
        lines += [f"*To expect:* {linked(recipe.expect, '../..')}", ""] if recipe.expect else []
        options = [o for o in describe(recipe) if not o.startswith(("--description", "--expect"))]
        lines += [f'??? abstract "Its {len(options)} settings"', "", "    ```text"]
        lines += [*(f"    {option}" for option in options), "    ```", ""]
    return "\n".join(lines)


def linked(text: str, root: str) -> str:
    """A text whose pages of the documentation are links; `root` leads from its page to all."""
    return re.sub(r"\bdocs/([\w/]+\.md)", rf"[\1]({root}/\1)", text)


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
    return cell((inspect.getdoc(own) or "").split("\n\n")[0])


def cell(text: str) -> str:
    """A text as one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def names_by_room() -> dict[str, dict[str, str]]:
    """By package its public names, and of each the package that tells of it: the first one."""
    told: dict[int, str] = {}
    found: dict[str, dict[str, str]] = {}
    for room in (f"vitreous{room}" for room in ROOMS):
        values = dict(public_values(room))
        found[room] = {name: told.setdefault(id(value), room) for name, value in values.items()}
    return found


def page_of(room: str) -> str:
    """The name of a package's page."""
    return room.rpartition(".")[2]


def python(names: Mapping[str, Mapping[str, str]]) -> str:
    """Every public name with its first sentence, in a table for each package."""
    lines = ["# Python", "", "The public names, from their docstrings.", ""]
    for room, owners in names.items():
        page = f"python/{page_of(room)}.md"
        lines += [f"## [{room}]({page})", "", "| name | what it is |", "| --- | --- |"]
        for name, value in public_values(room):
            if owners[name] == room:
                lines += [f"| [`{name}`]({page}#{place(room, name)}) | {first_sentence(value)} |"]
        lines += [""]
    return "\n".join(lines)


def room_page(room: str, owners: Mapping[str, str]) -> str:
    """Directives for mkdocstrings: the names of a package; links for those told elsewhere."""
    links = [
        f"[`{name}`]({page_of(owner)}.md#{place(owner, name)})"
        for name, owner in owners.items()
        if owner != room
    ]
    also = [f"Also here: {', '.join(links)}.", ""] if links else []
    own = (directive(room, name) for name, owner in owners.items() if owner == room)
    return "\n".join([f"# {room}", "", *also, *own])


def directive(room: str, name: str) -> str:
    """What mkdocstrings makes the entry of a name of: titled as it is imported, wherever it is."""
    path = place(room, name)
    heading = f"    options: {{heading: {room}.{name}, toc_label: {name}}}\n"
    return f"::: {path}\n" + (heading if path != f"{room}.{name}" else "")


def place(room: str, name: str) -> str:
    """The path that a name is told under: the public one, unless a module is called the same."""
    path = f"{room}.{name}"
    if importlib.util.find_spec(path) is None:
        return path
    value = getattr(importlib.import_module(room), name)
    return f"{value.__module__}.{value.__qualname__}"


def public_values(package: str) -> Iterator[tuple[str, object]]:
    """Public classes and functions of a package by name."""
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
