"""The run folder by itself: whose it is, which recipe it holds, what it keeps of its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers import tiny_recipe
from vitreous.config import build, merge
from vitreous.errors import VitreousError
from vitreous.training import Recipe
from vitreous.training.run import RunFolder


def recipe(**overrides: Any) -> Recipe:
    return build(Recipe, merge(tiny_recipe(Path("set")), overrides))


def test_a_folder_takes_its_own_recipe_and_what_may_change(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.check(recipe()) == set(), "nothing is there"
    folder.prepare(recipe())
    assert folder.check(recipe()) == set()
    assert folder.check(recipe(training={"workers": 3})) == {"training.workers"}
    with pytest.raises(VitreousError, match=r"run of another recipe \(.*optimizer\.lr"):
        folder.check(recipe(optimizer={"lr": 1.0}))
    assert RunFolder(tmp_path / "run").check(recipe()) == set(), "a refusal changes nothing"


def test_a_folder_of_others_is_taken_only_with_leave(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    folder = RunFolder(tmp_path)
    for call in (folder.check, folder.prepare):
        with pytest.raises(VitreousError, match=str(tmp_path)):
            call(recipe())
    assert not (tmp_path / "recipe.yaml").exists()
    assert folder.check(recipe(), overwrite=True) == set()
    folder.prepare(recipe(), overwrite=True)
    assert folder.check(recipe()) == set(), "it is ours from now on"


def test_metrics_are_cut_to_what_they_were(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.rewind(10)
    assert folder.metrics_size() == 0 and not folder.metrics.exists()
    folder.log({"step": 1, "loss": float("nan")})
    size = folder.metrics_size()
    assert size == folder.metrics.stat().st_size > 0
    folder.log({"step": 2})
    assert [row["step"] for row in folder.read_metrics()] == [1, 2]
    folder.rewind(10**6)
    assert len(folder.read_metrics()) == 2, "a size beyond the end adds nothing"
    folder.rewind(size)
    assert folder.read_metrics() == [{"step": 1, "loss": None}]
