"""A run that is there takes more epochs, workers and samples; other mathematics are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build, merge
from vitreous.errors import VitreousError
from vitreous.training import Recipe, train
from vitreous.training.going_on import refusal

SHORT = {"epochs": 1, "samples": 1}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_masked_set(tmp_path / "data")
    return tmp_path / "data"


def make(root: Path, **overrides: Any) -> Recipe:
    return build(Recipe, merge(tiny_recipe(root), overrides))


def test_more_epochs_and_samples_give_the_run_that_had_them_at_once(root, tmp_path):
    more = make(root, training={"epochs": 2, "samples": 3})
    train(more, tmp_path / "whole", quiet=True)
    train(make(root, training=SHORT), tmp_path / "run", quiet=True)
    results = train(more, tmp_path / "run", quiet=True)
    whole, run = (
        torch.load(tmp_path / n / "checkpoints" / "last.pt", weights_only=True)["model"]
        for n in ("whole", "run")
    )
    assert all(torch.equal(run[name], value) for name, value in whole.items())
    assert results.context["epochs"] == 2
    for name in ("metrics.jsonl", "samples/samples.json"):
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "whole" / name).read_text()
    listed = json.loads((tmp_path / "run" / "samples" / "samples.json").read_text())
    assert len(listed) == 3
    assert all((tmp_path / "run" / "samples" / row["files"]["before"]).is_file() for row in listed)
    with pytest.raises(VitreousError, match="has done 2 epochs already"):
        train(make(root, training=SHORT), tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"optimizer": {"lr": 0.5}}, "optimizer.lr"),
        ({"training": {"batch_size": 5}}, "training.batch_size"),
        ({"training": {"ema": 0.9}}, "training.ema"),
        ({"objectives": {"relevance": {"weight": 0.7}}}, "objectives.relevance.weight"),
    ],
)
def test_other_mathematics_are_refused_by_name(root, values, key):
    assert refusal(make(root), make(root, **values)).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"schedule": {"name": "cosine"}}, "the schedule"),
        ({"adversary": {"name": "fgsm", "warmup": 0.5}}, "adversary.warmup"),
        ({"objectives": {"relevance": {"ramp": [0.0, 0.5]}}}, "objectives.relevance.ramp"),
    ],
)
def test_what_depends_on_the_number_of_epochs_is_told(root, values, what):
    reason = refusal(make(root, **values), make(root, **merge(values, {"training": {"epochs": 9}})))
    assert (
        reason == f"training.epochs: 3 there, 9 now, and {what} follows from the number of epochs"
    )
    workers = make(root, **merge(values, {"training": {"workers": 2, "trackers": ["tensorboard"]}}))
    assert refusal(make(root, **values), workers) == ""
