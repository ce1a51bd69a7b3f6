"""Joint training: data with masks for some, every recipe for a step, and stopped runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import TINY_CROSSVIT, TINY_MODEL, tiny_recipe, write_masked_set
from vitreous.config import build, merge, plain
from vitreous.data.loading import epoch_batches
from vitreous.data.readers.mixed import Mixed, Shares, counts
from vitreous.errors import VitreousError
from vitreous.training import Recipe, list_recipes, load_recipe, train
from vitreous.training.engine import Trainer

WNIDS = ("n01440764", "n01443537", "n01484850")  # ImageNet-1k's first three, which have places 0–2


def test_the_share_holds_in_an_epoch_and_no_picture_is_left_out():
    for stream, masked, share in [(1000, 10, 0.25), (10, 1000, 0.25), (60, 20, 0.25), (7, 5, 0.9)]:
        a, b = counts(stream, masked, share)
        assert a >= stream and b >= masked and (a == stream or b == masked)
        assert abs(b - share * (a + b)) <= 1


@pytest.mark.parametrize("share", [0.1, 0.25, 0.8])
@pytest.mark.parametrize("batch_size", [4, 16, 64])
def test_every_batch_has_its_share_and_an_epoch_is_a_permutation(share, batch_size):
    stream, masked = counts(1000, 30, share)
    total, interleave = stream + masked, Shares(stream)
    for epoch in range(3):
        batches = epoch_batches(total, batch_size, 0, epoch, True, interleave)
        assert sorted(index for batch in batches for index in batch) == list(range(total))
        assert batches == epoch_batches(total, batch_size, 0, epoch, True, interleave)
        for batch in batches:
            share_of_batch = sum(index >= stream for index in batch)
            assert abs(share_of_batch - share * len(batch)) < 2


def test_the_engine_gives_every_batch_its_share(sources, tmp_path, monkeypatch):
    values = merge(tiny_recipe(tmp_path), {"data": sources})
    values["objectives"] = {"classification": {}}
    values["training"] = {"epochs": 2, "batch_size": 5, "trackers": [], "samples": 0}
    shares = []
    original = Trainer.step

    def counting(self, batch, whole):
        shares.append(int(batch.has_mask.sum()))
        return original(self, batch, whole)

    monkeypatch.setattr(Trainer, "step", counting)
    recipe = build(Recipe, {k: v for k, v in values.items() if k != "data"} | {"data": sources})
    train(recipe, tmp_path / "run", quiet=True)
    assert len(shares) == 18 and sum(shares) == 2 * 18
    assert all(1 <= share <= 3 for share in shares), "2 of 5 are masked"


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Any]:
    write_masked_set(tmp_path / "few", classes=2, per_class=3)
    write_masked_set(tmp_path / "many", classes=3, per_class=12)
    (tmp_path / "few" / "images" / "class_0").rename(tmp_path / "few" / "images" / "class_2")
    (tmp_path / "few" / "masks" / "class_0").rename(tmp_path / "few" / "masks" / "class_2")
    few, many = tmp_path / "few", tmp_path / "many"
    masked = {"name": "folders", "images": str(few / "images"), "masks": str(few / "masks")}
    stream = {"name": "folders", "images": str(many / "images"), "validation_share": 0.25}
    return {"name": "mixed", "stream": stream, "masked": masked, "masked_share": 0.4}


def test_classes_are_matched_by_name_and_only_masked_rows_have_masks(sources):
    split = build(Mixed, {k: v for k, v in sources.items() if k != "name"}).load(0)
    assert split.class_names == ["class_0", "class_1", "class_2"]
    assert (len(split.train), len(split.validation)) == (27 + 18, 9 + 2)
    seen = []
    for index in range(len(split.train)):
        item = split.train[index]
        assert f"class_{item.label}/" in item.name
        assert (item.mask is not None) == (index >= 27) == item.name.startswith("masked/")
        seen.append(item.name)
    assert len(set(seen)) == 27 + 4


def test_mistakes_in_a_mixture_are_told(sources, tmp_path):
    values = merge(tiny_recipe(tmp_path), {"data": sources})
    for change, message in [
        ({"masked_share": 1.0}, "above 0 and below 1"),
        ({"masked": None}, "expected two sources"),
        ({"stream": {"image": "x"}}, "did you mean 'images'"),
    ]:
        with pytest.raises(VitreousError, match=message):
            build(Recipe, merge(values, {"data": change}))
    few = tmp_path / "few"
    (few / "images" / "class_2").rename(few / "images" / "klass_2")
    (few / "masks" / "class_2").rename(few / "masks" / "klass_2")
    recipe = build(Recipe, values)
    with pytest.raises(VitreousError, match=r"klass_2.*did you mean 'class_2'"):
        recipe.data.load(0)


def test_everything_at_once_trains_and_resumes_exactly(sources, tmp_path, monkeypatch):
    recipe = build(
        Recipe,
        {
            **tiny_recipe(tmp_path),
            "model": {
                "name": "crossvit_tiny_240",
                "pretrained": False,
                "image_size": 32,
                "options": TINY_CROSSVIT,
            },
            "data": sources,
            "transforms": {
                "train": {"random_crop": {"size": 32}, "quarter_turn": {}},
                "validation": {"center_crop": {"size": 32}},
            },
            "adversary": {"name": "fgsm"},
            "objectives": {
                "classification": {},
                "relevance": {"images": "clean", "ramp": [0.0, 0.5]},
                "relevance_consistency": {},
                "background_swap": {"consistency": 0.5},
            },
            "training": {"epochs": 2, "batch_size": 8, "checkpoint_every": 2, "trackers": []},
        },
    )
    train(recipe, tmp_path / "whole", quiet=True)
    original = Trainer.step

    def dying(self, batch, whole):
        if self.progress.step >= 4:
            raise KeyboardInterrupt
        return original(self, batch, whole)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", dying)
        train(recipe, tmp_path / "cut", quiet=True)
    train(recipe, tmp_path / "cut", quiet=True)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


@pytest.mark.parametrize("name", [n for n in list_recipes() if n.startswith("joint/")])
def test_the_joint_recipes_are_complete(name):
    data: dict[str, Any] = {"images": "pictures"}
    if not name.endswith("no_masks"):
        data = {"stream": data, "masked": {"images": "pictures", "masks": "masks"}}
    recipe = load_recipe(name, {} if name == "joint/small_vit" else {"data": data})
    assert recipe.description and recipe.expect and recipe.adversary is not None
    assert "quarter_turn" in recipe.transforms.train
    assert {"relevance", "relevance_consistency"} & set(recipe.objectives)
    assert ("masks" in recipe.needs) == isinstance(recipe.data, Mixed)


def small_data(name: str, root: Path) -> dict[str, Any]:
    """Data for one step of a joint recipe: what it asks its reader for, or fewer pictures."""
    if name == "joint/small_vit":
        few = {"train": 12, "validation": 4}
        return {"stream": few, "masked": few}
    write_masked_set(root, classes=3, per_class=5)
    for label, wnid in enumerate(WNIDS):
        for folder in ("images", "masks"):
            (root / folder / f"class_{label}").rename(root / folder / wnid)
    images = {"images": str(root / "images")}
    if name.endswith("no_masks"):
        return {**images, "validation_share": 0.2}
    masked = {**images, "masks": str(root / "masks")}
    if "small" not in name:
        masked |= {"classes": 2, "per_class": 4, "mask_format": "binary"}
    return {"stream": {**images, "validation_share": 0.2}, "masked": masked}


def shrink_transforms(transforms: dict[str, Any], side: int) -> dict[str, Any]:
    """The same views with another number of pixels."""
    return {
        split: {
            step: {**options, "size": side} if "size" in (options or {}) else options
            for step, options in steps.items()
        }
        for split, steps in transforms.items()
        if split != "decoding"
    }


@pytest.mark.parametrize("name", [n for n in list_recipes() if n.startswith("joint/")])
def test_every_joint_recipe_makes_a_step(name, tmp_path):
    recipe = load_recipe(name, {"data": small_data(name, tmp_path)})
    side = 48 if name == "joint/small_vit" else 32  # of generated pictures, and of our own
    model: dict[str, Any] = {**TINY_MODEL, "num_classes": 8, "image_size": side}
    if "crossvit" in name:
        model |= {"name": "crossvit_tiny_240", "options": TINY_CROSSVIT}
    short = {"epochs": 1, "batch_size": 64, "samples": 1, "trackers": []}
    values = merge(
        plain(recipe),
        {"model": model, "training": short, "selection": {"metric": "validation/loss"}},
    )
    values["transforms"] = shrink_transforms(values["transforms"], side)
    tiny = build(Recipe, values)
    assert set(tiny.objectives) == set(recipe.objectives) and tiny.adversary is not None
    train(tiny, tmp_path / "run", quiet=True)
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (step,) = [line for line in lines if line["split"] == "train"]
    for objective in recipe.objectives:
        assert np.isfinite(step[objective]) and step[objective] > 0
