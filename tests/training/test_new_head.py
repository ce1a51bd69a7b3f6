"""A head that starts anew is never silent."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from helpers import TINY_MODEL, tiny_recipe, write_masked_set, write_squares
from vitreous import Classifier, load_model, save_model
from vitreous.config import build
from vitreous.errors import VitreousError
from vitreous.evaluation.suites import MaskedSettings
from vitreous.evaluation.test_sets import read_set
from vitreous.training import train
from vitreous.training.recipe import Recipe

WORDNET = {"n01440764": 0, "n01443537": 1, "n04507155": 879}  # tench, goldfish, umbrella


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


@pytest.fixture
def imagenet_model(tmp_path: Path) -> Classifier:
    options = {"image_size": 32, "num_classes": 1000, **TINY_MODEL["options"]}
    return load_model(TINY_MODEL["name"], pretrained=False, **options)


def rename(root: Path, old: str, names: list[str]) -> None:
    for kind in ("images", "masks"):
        for place, name in enumerate(names):
            (root / kind / old.format(place)).rename(root / kind / name)


def test_wordnet_folders_train_the_head_of_imagenet(tmp_path, imagenet_model, caplog) -> None:
    write_masked_set(tmp_path)
    rename(tmp_path, "class_{}", list(WORDNET))
    start = str(save_model(imagenet_model, tmp_path / "start"))
    made = recipe(tmp_path, start, "prediction")  # not refused: the head is kept
    with caplog.at_level(logging.WARNING):
        classifier, split = made.load_with_data(made.data.load(0))
    assert classifier.num_classes == 1000 and not classifier.new_head
    assert set(split.train.labels.tolist()) == set(split.validation.labels.tolist())
    assert set(split.train.labels.tolist()) == {*WORDNET.values()}
    for index in range(len(split.train)):
        folder = split.train.name(index).split("/")[0]
        assert split.train.label(index) == WORDNET[folder]
    lines = [r.getMessage() for r in caplog.records]
    assert lines == [
        "3 classes are WordNet ids of ImageNet: their labels are places among the model's 1000"
    ]
    values = {"model": {"name": start}, "training": {"epochs": 1, "batch_size": 4, "trackers": []}}
    train(build(Recipe, tiny_recipe(tmp_path, **values)), tmp_path / "run", quiet=True)
    assert load_model(tmp_path / "run").num_classes == 1000


@pytest.mark.parametrize("own", [{"new_head": True}, {"num_classes": 3}])
def test_a_head_of_its_own_is_made_on_request(tmp_path, imagenet_model, own) -> None:
    write_masked_set(tmp_path)
    rename(tmp_path, "class_{}", list(WORDNET))
    start = str(save_model(imagenet_model, tmp_path / "start"))
    objectives = {"classification": {"target": "label"}}
    values = {"model": {"name": start, **own}, "objectives": objectives}
    made = build(Recipe, tiny_recipe(tmp_path, **values))
    classifier, split = made.load_with_data(made.data.load(0))
    assert classifier.num_classes == 3 and set(split.train.labels.tolist()) == {0, 1, 2}


def test_wordnet_folders_are_scored_by_the_head_of_imagenet(
    tmp_path, imagenet_model, caplog
) -> None:
    write_squares(tmp_path, 6)
    rename(tmp_path, "c{}", ["n04507155", "n01443537"])
    data, masks = tmp_path / "images", tmp_path / "masks"
    masked = MaskedSettings("squares", data, masks)
    dataset = masked.read(data, tuple(imagenet_model.class_names))
    assert sorted(set(dataset.labels.tolist())) == [1, 879] and not dataset.left_out
    assert np.array_equal(dataset.labels == 879, ["n04" in dataset.name(i) for i in range(6)])
    names = tuple(imagenet_model.class_names)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        (scored,) = read_set("folder", data, class_names=names, num_classes=1000)
    assert scored.accepted == ((1,), (879,)) and len(caplog.records) == 1
