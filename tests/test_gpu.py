"""Checks that need a CUDA device: the same numbers as on the CPU, and half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vitreous
from helpers import TINY_MODEL, tiny_recipe, write_masked_set
from vitreous.attribution import METHODS
from vitreous.config import build, merge
from vitreous.training import Recipe, train

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("method", sorted(METHODS))
def test_relevance_is_the_same_as_on_the_cpu(method: str):
    options = {k: v for k, v in TINY_MODEL.items() if k != "options"}
    classifier = vitreous.load_model(**options, **TINY_MODEL["options"], num_classes=5)
    images = torch.rand(4, 3, 32, 32)
    expected = vitreous.relevance(classifier, images, 1, method)
    found = vitreous.relevance(classifier.cuda(), images.cuda(), 1, method)
    assert torch.allclose(found.cpu(), expected, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_training_runs_in_every_precision_and_comes_close_to_fp32(tmp_path: Path, precision: str):
    write_masked_set(tmp_path / "set")
    recipe = merge(tiny_recipe(tmp_path / "set"), {"training": {"precision": precision}})
    results = train(build(Recipe, recipe), tmp_path / precision, quiet=True)
    exact = merge(recipe, {"training": {"precision": "float32"}})
    reference = train(build(Recipe, exact), tmp_path / "reference", quiet=True)
    a = results.find(metric="loss", moment="after")[0].value
    b = reference.find(metric="loss", moment="after")[0].value
    assert a == pytest.approx(b, rel=0.05)
