"""A workplace with good inputs, made once; each test spoils a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.bench import Bench, make_workplace


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workplace(tmp_path_factory.mktemp("good"))


@pytest.fixture
def bench(good: Path, tmp_path: Path) -> Bench:
    return Bench(good, tmp_path / "place")
