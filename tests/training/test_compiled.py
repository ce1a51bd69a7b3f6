"""A compiled step with its relevance maps is the step: one graph, the same weights."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build
from vitreous.errors import VitreousError
from vitreous.training import Recipe, train
from vitreous.training.run import RunFolder

FGSM = {"name": "pgd", "steps": 1, "epsilon": 4 / 255, "step_size": 5 / 255}
LABEL, PREDICTION = {"classification": {}, "relevance": {}}, {"target": "prediction"}
RECIPES: dict[str, dict[str, Any]] = {
    "relevance": {},
    "prediction": {"objectives": {"classification": PREDICTION, "relevance": PREDICTION}},
    "rollout": {"objectives": {"classification": {}, "relevance": {"method": "rollout"}}},
    "some layers": {"objectives": {"classification": {}, "relevance": {"start_layer": 1}}},
    "joint": {"objectives": {**LABEL, "relevance_consistency": {}}, "adversary": FGSM},
    "accumulation": {"accumulation": 2},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of which the last batch of an epoch has fewer."""
    root = tmp_path_factory.mktemp("set")
    write_masked_set(root, per_class=4)
    return root


def trained(root: Path, out: Path, name: str, compiled: bool) -> tuple[Any, list[dict[str, Any]]]:
    """Weights and metrics of two epochs."""
    changes = dict(RECIPES[name])
    options = {k: changes.pop(k) for k in ("accumulation", "precision") if k in changes}
    training = {"epochs": 2, "batch_size": 4, "trackers": [], "samples": 0, **options}
    optimizer = {"name": "sgd", "lr": 0.05}  # Adam makes steps of rounding
    values = tiny_recipe(
        root, training={**training, "compile": compiled}, optimizer=optimizer, **changes
    )
    train(build(Recipe, values), out, quiet=True)
    state = RunFolder(out).load_state()
    assert state is not None
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return state["model"], [json.loads(line) for line in lines]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile for real but for the code of the processor, which takes half a minute."""
    compiling = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", compiling)
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("name", RECIPES)
def test_a_compiled_training_is_the_training(
    name: str, root: Path, tmp_path: Path, traced: None
) -> None:
    expected, figures = trained(root, tmp_path / "plain", name, False)
    assert not counters["stats"]
    weights, found = trained(root, tmp_path / "compiled", name, True)
    assert counters["stats"]["unique_graphs"] == 1, "one graph, the last and smaller batch too"
    assert not counters["graph_break"]
    rounding = {"bfloat16": 2e-2, "rollout": 1e-4}.get(name, 1e-5)
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, atol=rounding, rtol=0)
    assert [row.keys() for row in found] == [row.keys() for row in figures]
    for row, other in zip(found, figures):
        for key in ("loss", "relevance"):
            assert row[key] == pytest.approx(other[key], abs=rounding)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": {"relevance": {"second_order": True}}}, "derived twice"),
        ({"objectives": {"relevance": {}, "relevance_consistency": PREDICTION}}, "differ in"),
        ({"objectives": {"relevance": {}, "rrr": {}}}, "input gradients"),
        ({"precision": "float16"}, "float16"),
    ],
)
def test_what_one_graph_cannot_hold_is_refused(
    changes: dict[str, Any], words: str, root: Path
) -> None:
    changes = dict(changes)
    options = {k: changes.pop(k) for k in ("precision",) if k in changes}
    values = tiny_recipe(root, training={"compile": True, **options}, **changes)
    with pytest.raises(VitreousError, match=rf"training.compile does not go with .*{words}"):
        build(Recipe, values)
