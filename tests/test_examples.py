"""What docstrings show as examples is so: `pytest --doctest-modules src` in short."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

import vitreous
from golden.pin_public import PACKAGES


def documented() -> dict[str, object]:
    """Public classes and functions by where they are defined."""
    packages = [importlib.import_module(name) for name in PACKAGES]
    values = [getattr(package, name) for package in packages for name in package.__all__]
    own = [v for v in values if inspect.isclass(v) or inspect.isfunction(v)]
    return {f"{v.__module__}.{v.__qualname__}": v for v in own}


WITH_EXAMPLE = sorted(k for k, v in documented().items() if ">>>" in (inspect.getdoc(v) or ""))


@pytest.mark.parametrize("place", WITH_EXAMPLE)
def test_an_example_gives_what_it_shows(place: str) -> None:
    value = documented()[place]
    names = vars(importlib.import_module(place.rpartition(".")[0])).copy()
    found = doctest.DocTestFinder(recurse=False).find(value, place, globs=names)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    told: list[str] = []
    for test in found:
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert told == []


def test_the_first_names_have_examples() -> None:
    """All that `import vitreous` offers but two types that nobody makes by hand."""
    first = {getattr(vitreous, name) for name in vitreous.__all__}
    without = {v.__name__ for k, v in documented().items() if v in first and k not in WITH_EXAMPLE}
    assert without == {"AttentionTrace", "VitreousError"}
    assert len(WITH_EXAMPLE) >= 15
