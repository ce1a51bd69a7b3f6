"""Every kind of step that the shipped recipes make, compiled: the same losses."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import TINY_MODEL, write_masked_set
from vitreous.config import build
from vitreous.recipes import list_recipes
from vitreous.training import Recipe, train
from vitreous.training.recipe import recipe_values


def kind_of(name: str) -> str:
    """What tells the steps of recipes apart: all but numbers of objectives and adversary."""
    values = recipe_values(name)
    parts = {**values["objectives"], "adversary": values.get("adversary")}
    texts = {
        key: {k: v for k, v in (part or {}).items() if isinstance(v, str | bool)}
        for key, part in parts.items()
        if part is not False
    }
    return json.dumps([texts, values["training"].get("freeze")], sort_keys=True)


KINDS = list({kind_of(name): name for name in reversed(list_recipes())}.values())
GENERATED = ("photographs/guided_swapped", "demo/robust")
"""Of these code is generated too: maps, a varying number of rows, an adversary."""


def trained(
    recipe: str, root: Path, out: Path, compiled: bool, depth: int
) -> tuple[list[float], Any]:
    """Losses of the steps of an epoch, the last of which is smaller, and what was compiled."""
    values = recipe_values(recipe)
    values |= {
        "model": {**TINY_MODEL, "options": {**TINY_MODEL["options"], "depth": depth}},
        "data": {"name": "folders", "images": str(root / "list.csv"), "validation_share": 0.2},
        "transforms": {
            "train": {"random_crop": {"size": 32}},
            "validation": {"center_crop": {"size": 32}},
        },
        "optimizer": {"name": "sgd", "lr": 0.05},
        "schedule": {"name": "constant"},
        "selection": {},
        "robust_validation": {"images": 0},
        "training": {
            "epochs": 1,
            "batch_size": 6,
            "freeze": values["training"].get("freeze", ()),
            "compile": "strict" if compiled else False,
            "trackers": [],
            "samples": 0,
        },
    }
    train(build(Recipe, values), out, quiet=True)
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    told = json.loads((out / "results.json").read_text())["extra"].get("compiled")
    return [row["loss"] for row in rows if row["split"] == "train"], told


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images with masks and groups, of which the last batch has fewer."""
    write_masked_set(tmp_path, per_class=4)
    lines = ["path,label,mask,group"]
    for place, file in enumerate(sorted((tmp_path / "images").rglob("*.png"))):
        name = file.relative_to(tmp_path / "images").as_posix()
        lines.append(f"images/{name},{file.parent.name},masks/{name},g{place % 2}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def check(recipe: str, root: Path, depth: int) -> None:
    """Compiled, a recipe has the losses that it has, and makes each graph once."""
    expected, nothing = trained(recipe, root, root / "plain", False, depth)
    assert len(expected) == 2 and nothing is None
    losses, told = trained(recipe, root, root / "compiled", True, depth)
    assert losses == pytest.approx(expected, abs=1e-4)
    objectives = {k for k, o in recipe_values(recipe)["objectives"].items() if o is not False}
    graphs = {"step"}
    graphs |= {"adversary"} if recipe_values(recipe).get("adversary") else set()
    graphs |= {"some rows"} if "background_swap" in objectives else set()
    assert told["graphs"] == dict.fromkeys(graphs, 1) and "uncompiled" not in told


@pytest.mark.long
@pytest.mark.parametrize("recipe", KINDS)
def test_a_kind_of_step_compiled_has_the_losses_of_the_step(
    recipe: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", compiling)
    check(recipe, root, depth=2)


@pytest.mark.long
@pytest.mark.parametrize("recipe", GENERATED)
def test_the_code_that_is_generated_of_a_step_has_its_losses(recipe: str, root: Path) -> None:
    with torch._inductor.utils.fresh_cache():
        check(recipe, root, depth=1)
