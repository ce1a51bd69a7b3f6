"""Settings: words of older versions are still read, and say what they are called now."""

from __future__ import annotations

import pytest

from helpers import tiny_recipe
from vitreous.cli import current_options
from vitreous.config import build, merge
from vitreous.training.recipe import Recipe


def test_recipes_in_older_words_are_read_with_a_warning_that_names_the_new_ones(tmp_path) -> None:
    present = tiny_recipe(tmp_path)
    older = {**present, "views": present["transforms"], "probe": {"pictures": 3, "step": 0.25}}
    del older["transforms"]
    older["training"] = {**present["training"], "precision": "fp32"}
    with pytest.warns(FutureWarning) as told:
        recipe = build(Recipe, older)
    names = ("transforms", "robust_validation", "images", "step_size", "float32")
    for name in names:
        assert any(f"is now called '{name}'" in str(one.message) for one in told)
    assert recipe.transforms == build(Recipe, present).transforms
    assert recipe.robust_validation.images == 3 and recipe.robust_validation.step_size == 0.25
    assert recipe.training.precision == "float32"


def test_an_older_word_laid_over_a_recipe_changes_the_key_of_today() -> None:
    base = {"transforms": {"train": {"crop": {"size": 8}, "flip": {}}}}
    with pytest.warns(FutureWarning, match="'views' is now called 'transforms'"):
        merged = merge(base, {"views": {"train": {"crop": {"size": 4}}}})
    assert merged == {"transforms": {"train": {"crop": {"size": 4}, "flip": {}}}}


def test_older_options_are_read_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="'--picture' is now called '--image'"):
        assert current_options(["--picture", "a.jpg", "--steps", "3"]) == [
            *("--image", "a.jpg"),
            *("--steps", "3"),
        ]
