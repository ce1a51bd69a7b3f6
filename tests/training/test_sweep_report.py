"""Trials that end early, and what a sweep leaves: table, importance, drawing, the best recipe."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from PIL import Image

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.training import sweep_trials
from vitreous.training.run import RunFolder
from vitreous.training.sweep import parse_axis, sweep
from vitreous.training.sweep_figure import coordinates
from vitreous.training.sweep_report import importance


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    write_masked_set(tmp_path / "set", per_class=3)
    training = {"epochs": 3, "batch_size": 6, "trackers": [], "samples": 0}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "set", training=training)))
    return str(path)


def validated(folder: Path) -> list[int]:
    rows = RunFolder(folder).read_metrics()
    return [int(str(r["epoch"])) for r in rows if r["split"] == "validation"]


def test_a_hopeless_trial_is_pruned_after_its_epoch_and_the_best_recipe_trains(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    search = ["--search", "optimizer.lr=choice:1e-9:3e-3", "--trials", "2", "--seed", "1"]
    options = [*search, "--pruner", "halving", "--quiet", "--out", str(out)]
    assert main(["sweep", recipe, *options]) == 0
    told = capsys.readouterr().out
    rows = list(csv.DictReader((out / "trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["complete", "pruned"]
    assert rows[0]["optimizer.lr"] == "3e-3", "the seed tries the better one first"
    assert rows[1]["problem"] == "pruned after epoch 1" and rows[1]["problem"] in told
    assert validated(out / "trial_0000") == [0, 1, 2, 3]
    assert validated(out / "trial_0001") == [0, 1], "it ended when it was pruned"
    assert main(["sweep", recipe, *options]) == 0, "a pruned trial is not tried again"
    assert len((out / "trials.csv").read_text().splitlines()) == 3
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert best["optimizer"]["lr"] == 3e-3
    assert main(["train", str(out / "best.yaml"), "--quiet", "--out", str(tmp_path / "run")]) == 0
    metrics = [RunFolder(f).read_metrics() for f in (tmp_path / "run", out / "trial_0000")]
    assert metrics[0] == metrics[1]
    with Image.open(out / "parallel_coordinates.png") as drawn:
        assert drawn.width > 200


def test_a_trial_killed_before_its_epoch_was_told_is_told_of_it_and_pruned(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = [parse_axis("optimizer.lr=choice:1e-9:3e-3")]
    settings = {"trials": 2, "seed": 1, "pruner": "halving"}
    own = sweep_trials.EpochReports.__call__

    def killed(self, epoch, figures):
        if self.trial_id == 2:
            raise SystemExit("killed")
        own(self, epoch, figures)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(sweep_trials.EpochReports, "__call__", killed)
        sweep(recipe, axes, tmp_path / "out", **settings)
    assert validated(tmp_path / "out" / "trial_0001") == [0, 1]
    study = sweep(recipe, axes, tmp_path / "out", **settings)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED"]
    assert study.trials[1].intermediate_values.keys() == {1}
    assert validated(tmp_path / "out" / "trial_0001") == [0, 1], "no epoch more was trained"


def test_what_matters_is_told_by_the_variance_it_explains() -> None:
    study = optuna.create_study()
    wide = optuna.distributions.FloatDistribution(0.0, 1.0)
    random = np.random.default_rng(0)
    assert importance(study) == {}
    for a, b in random.random((60, 2)).tolist():
        # Variances of 3a and b are 9 to 1, and neither changes what the other does.
        trial = optuna.trial.create_trial(
            params={"a": a, "b": b}, distributions={"a": wide, "b": wide}, value=3 * a + b
        )
        study.add_trial(trial)
    shares = importance(study)
    assert list(shares) == ["a", "b"] and shares["a"] == pytest.approx(0.9, abs=0.06)


def test_each_setting_has_its_own_scale() -> None:
    texts = ("a=log:1e-4:1e-2", "b=choice:x:y:z", "c=int:2:6", "d=linear:-1:1", "e=int:3:3")
    axes = [parse_axis(text) for text in texts]
    values = {"a": 1e-3, "b": "z", "c": 3, "d": -1.0, "e": 3}
    heights = coordinates(axes, [(values, 0.5), ({**values, "a": 1e-2}, 0.7), (values, 0.6)])
    np.testing.assert_allclose(heights[0], [0.5, 1.0, 0.25, 0.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(heights[1], [1.0, 1.0, 0.25, 0.0, 0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(heights[2, -1], 0.5)


def test_the_importance_is_written(recipe: str, tmp_path: Path) -> None:
    axes = [parse_axis("optimizer.lr=choice:1e-9:3e-3"), parse_axis("training.epochs=choice:1:2")]
    sweep(recipe, axes, tmp_path / "out", trials=3)
    shares = json.loads((tmp_path / "out" / "importance.json").read_text())
    assert shares.keys() == {"optimizer.lr", "training.epochs"}
    assert sum(shares.values()) == pytest.approx(1.0)
