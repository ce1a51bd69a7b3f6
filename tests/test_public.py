"""The public names and their signatures are those that are written down, and nothing is missing."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import vitreous
from golden.pin_public import FILE, PACKAGES, lines, signature

ROOT = Path(__file__).parents[1]


def test_public_names_and_signatures_are_those_that_are_written_down() -> None:
    """If this change is meant: `python tests/golden/pin_public.py`, and a line in the changelog."""
    assert lines() == FILE.read_text(encoding="utf-8").splitlines()


def test_a_changed_parameter_is_seen() -> None:
    def before(model, *, steps=3):
        return model, steps

    def after(model, *, steps=4):
        return model, steps

    assert signature(before) == "(model, *, steps=3)" != signature(after)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_lists_is_there_and_what_it_imports_for_users_is_listed(package) -> None:
    module = importlib.import_module(package)
    names = module.__all__
    assert len(set(names)) == len(names) and sorted(names, key=str.casefold)
    for name in names:
        value = getattr(module, name)
        assert not inspect.ismodule(value)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{package}.{name} says nothing"


def test_every_room_that_has_names_for_users_is_written_down() -> None:
    """The others (`app`, `commands`, `data`, `demo`, `recipes`) are reached by their modules."""
    root = Path(vitreous.__file__).parent
    listing = {
        f"vitreous.{file.parent.name}"
        for file in root.glob("*/__init__.py")
        if re.search(r"^__all__ = ", file.read_text(encoding="utf-8"), re.M)
    }
    assert listing - {"vitreous.demo"} == set(PACKAGES) - {"vitreous"}
    assert (root / "py.typed").read_bytes() == b""
    reference = (ROOT / "docs" / "reference.py").read_text(encoding="utf-8")
    assert all(f'"{p.removeprefix("vitreous")}"' in reference for p in PACKAGES)
