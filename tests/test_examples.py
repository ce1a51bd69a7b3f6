"""What docstrings show as examples is so: `pytest --doctest-modules src` in short."""

from __future__ import annotations

import doctest
import importlib
import inspect
import tempfile
from pathlib import Path

import pytest

from golden.pin_public import PACKAGES


def documented() -> dict[str, object]:
    """Public classes and functions by where they are defined."""
    packages = [importlib.import_module(name) for name in PACKAGES]
    values = [getattr(package, name) for package in packages for name in package.__all__]
    own = [v for v in values if inspect.isclass(v) or inspect.isfunction(v)]
    return {f"{v.__module__}.{v.__qualname__}": v for v in own}


DOCUMENTED = documented()


def without_example(values: dict[str, object]) -> list[str]:
    return sorted(place for place, value in values.items() if ">>>" not in (value.__doc__ or ""))


def test_every_public_class_and_function_has_an_example() -> None:
    assert len(DOCUMENTED) > 90
    assert without_example(DOCUMENTED) == []


def test_a_function_without_an_example_is_seen() -> None:
    assert without_example({"here": documented}) == ["here"]


@pytest.mark.parametrize("place", sorted(DOCUMENTED))
def test_an_example_gives_what_it_shows(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folders are made in the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module = importlib.import_module(place.rpartition(".")[0])
    (example,) = doctest.DocTestFinder(recurse=False).find(
        DOCUMENTED[place], place, globs=vars(module).copy()
    )
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    told: list[str] = []
    runner.run(example, out=told.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert told == []
