"""A head that starts anew is never silent."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from helpers import TINY_MODEL, tiny_recipe
from vitreous import load_model, save_model
from vitreous.config import build
from vitreous.errors import VitreousError
from vitreous.training.recipe import Recipe


@pytest.fixture
def start(tmp_path: Path) -> str:
    options = {"image_size": 32, "num_classes": 4, **TINY_MODEL["options"]}
    model = load_model(TINY_MODEL["name"], pretrained=False, **options)
    return str(save_model(model, tmp_path / "start"))


def recipe(root: Path, start: str, target: str, new_head: bool = False) -> Recipe:
    objectives = {"classification": {"target": target}}
    model = {"name": start, "new_head": new_head}
    return build(Recipe, tiny_recipe(root, model=model, objectives=objectives))


def test_own_predictions_of_a_random_head_are_refused(tmp_path, start, caplog) -> None:
    three, four = ["a", "b", "c"], ["a", "b", "c", "d"]
    with pytest.raises(VitreousError, match="keeps the model's own prediction") as error:
        recipe(tmp_path, start, "prediction").load_model(three)
    assert "--model.new_head" in str(error.value) and "\n" not in str(error.value)
    assert not recipe(tmp_path, start, "prediction").load_model(four).new_head
    assert recipe(tmp_path, start, "prediction", new_head=True).load_model(three).new_head
    with caplog.at_level(logging.WARNING):
        assert recipe(tmp_path, start, "label").load_model(three).num_classes == 3
    assert "the head does not fit and starts anew" in caplog.text
