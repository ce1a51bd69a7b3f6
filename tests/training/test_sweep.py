"""Sweeps: a study that goes on, and mistakes told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from helpers import tiny_recipe, write_masked_set
from vitreous.errors import VitreousError
from vitreous.training.sweep import parse_axis, sweep


def test_a_sweep_keeps_the_best_figure_of_each_run_and_goes_on(tmp_path: Path):
    write_masked_set(tmp_path / "set", per_class=3)
    values = tiny_recipe(tmp_path / "set")
    values["training"] = {**values["training"], "epochs": 1, "samples": 0}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(values))
    axes = [parse_axis("optimizer.lr=log:1e-5:1e-2"), parse_axis("training.batch_size=choice:3:6")]
    first = sweep(str(recipe), axes, tmp_path / "out", trials=1)
    study = sweep(str(recipe), axes, tmp_path / "out", trials=2)
    assert len(study.trials) == 2 and study.trials[0].params == first.trials[0].params
    for trial in study.trials:
        folder = tmp_path / "out" / f"trial_{trial.number:04d}"
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert trial.value == min(
            r["loss"] for r in rows if r["split"] == "validation" and r["epoch"]
        )
        stored = yaml.safe_load((folder / "recipe.yaml").read_text())
        assert stored["optimizer"]["lr"] == pytest.approx(trial.params["optimizer.lr"])
        assert stored["training"]["batch_size"] == int(trial.params["training.batch_size"])


@pytest.mark.parametrize("text", ["optimizer.lr", "a=log:1", "a=cubic:1:2", "=log:1:2"])
def test_other_forms_are_refused(text: str):
    with pytest.raises(VitreousError, match="expected KEY=log:LOW:HIGH"):
        parse_axis(text)
