"""Sweeps: a study that goes on, and mistakes told in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.errors import InterruptedRun, VitreousError
from vitreous.training import sweep as sweep_module
from vitreous.training import sweep_trials as sweeping
from vitreous.training.interrupt import StopRequest
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


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A small recipe of one epoch with its masked set."""
    write_masked_set(tmp_path / "set", per_class=3)
    values = tiny_recipe(tmp_path / "set")
    values["training"] = {**values["training"], "epochs": 1, "samples": 0}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_killed_in_a_trial_and_run_again_it_tries_what_an_unbroken_search_tries(
    recipe: str, tmp_path: Path, monkeypatch
):
    axes = [parse_axis("optimizer.lr=log:1e-5:1e-2")]
    whole = sweep(recipe, axes, tmp_path / "whole", trials=3)
    train, begun = sweeping.train, []

    def killed(recipe, folder, **options):
        begun.append(folder.name)
        if len(begun) == 2:
            raise SystemExit("killed")  # no `except` of the search sees it, as with SIGKILL
        return train(recipe, folder, **options)

    monkeypatch.setattr(sweeping, "train", killed)
    with pytest.raises(SystemExit):
        sweep(recipe, axes, tmp_path / "broken", trials=3)
    study = sweep(recipe, axes, tmp_path / "broken", trials=3)
    assert begun == ["trial_0000", "trial_0001", "trial_0001", "trial_0002"]
    assert [t.params for t in study.trials] == [t.params for t in whole.trials]
    assert [t.value for t in study.trials] == [t.value for t in whole.trials]
    assert len({t.params["optimizer.lr"] for t in study.trials}) == 3


def test_a_signal_that_comes_as_a_trial_ends_stops_the_search_after_it(
    recipe: str, tmp_path: Path, monkeypatch
):
    axes = [parse_axis("optimizer.lr=log:1e-5:1e-2")]
    train, begun = sweeping.train, []

    def told_too_late(recipe, folder, **options):
        begun.append(folder.name)
        with StopRequest():  # that of the training, whose last step is done
            result = train(recipe, folder, **options)
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(sweeping, "train", told_too_late)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRun, match="stopped after trial 0; the same command goes on"):
        sweep(recipe, axes, tmp_path / "out", trials=3)
    assert begun == ["trial_0000"] and signal.getsignal(signal.SIGTERM) == before
    monkeypatch.setattr(sweeping, "train", train)
    study = sweep(recipe, axes, tmp_path / "out", trials=3)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3


def test_a_signal_that_comes_as_a_trial_is_drawn_stops_it_at_its_first_step(
    recipe: str, tmp_path: Path, monkeypatch, capsys
):
    draw = sweeping._next

    def signaled(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return draw(*arguments)

    monkeypatch.setattr(sweeping, "_next", signaled)
    axes = [parse_axis("training.seed=int:0:1")]
    with pytest.raises(InterruptedRun, match="stopped at step 1 of"):
        sweep(recipe, axes, tmp_path / "out", trials=2)


def test_a_finished_sweep_run_again_starts_no_workers(recipe: str, tmp_path: Path, monkeypatch):
    axes = [parse_axis("training.batch_size=choice:6")]
    first = sweep(recipe, axes, tmp_path / "out", trials=1)

    def started(*arguments):
        raise AssertionError("workers were started")

    monkeypatch.setattr(sweep_module, "work_together", started)
    for trials in (1, 5):  # as many as there were, and more than there are choices
        again = sweep(recipe, axes, tmp_path / "out", trials=trials, jobs=2)
        assert [t.value for t in again.trials] == [t.value for t in first.trials]
    with pytest.raises(AssertionError, match="started"):
        other = [parse_axis("training.seed=int:0:3")]
        sweep(recipe, other, tmp_path / "other", trials=2, jobs=2)


def test_a_trial_that_another_process_works_on_is_left_to_it(recipe, tmp_path, monkeypatch):
    axes = [parse_axis("training.batch_size=choice:3:6")]

    def second(settings, folder, **options):
        with monkeypatch.context() as patch:
            patch.setattr(sweeping, "train", train)
            code = "import sys; from vitreous.cli import main; sys.exit(main(sys.argv[1:]))"
            command = [sys.executable, "-c", code, "sweep", recipe, "--trials", "2", "--quiet"]
            search = ["--search", "training.batch_size=choice:3:6", "--out", str(tmp_path / "out")]
            subprocess.run([*command, *search], check=True, capture_output=True)
        return train(settings, folder, **options)

    train = sweeping.train
    monkeypatch.setattr(sweeping, "train", second)
    study = sweep(recipe, axes, tmp_path / "out", trials=2)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE"]
    assert {t.params["training.batch_size"] for t in study.trials} == {"3", "6"}


def test_choices_are_tried_once_each_and_then_the_search_ends(recipe: str, tmp_path: Path):
    axes = [parse_axis("training.batch_size=choice:3:6"), parse_axis("training.seed=int:0:1")]
    for trials in (1, 3, 9):
        study = sweep(recipe, axes, tmp_path / "out", trials=trials)
    settings = {tuple(trial.params.values()) for trial in study.trials}
    assert len(study.trials) == 4 == len(settings)


def test_a_trial_that_diverges_is_told_and_the_search_goes_on(recipe: str, tmp_path: Path, capsys):
    arguments = ["--search", "optimizer.lr=choice:1e-4:1e30", "--trials", "2", "--seed", "0"]
    out = ["--out", str(tmp_path / "out"), "--optimizer.name", "sgd", "--training.epochs", "3"]
    assert main(["sweep", recipe, *arguments, *out, "--quiet"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]
    assert len(lines) == 2 and sum("the loss is not finite" in line for line in lines) == 1
    assert main(["sweep", recipe, *arguments, *out, "--quiet"]) == 0, "nothing is left to try"


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("optimizer.lrr=log:1e-5:1e-2", "unknown key 'optimizer.lrr'; did you mean 'lr'?"),
        ("optimizer.lr=linear:-1:1", "optimizer.lr: expected above 0, found -1.0"),
        ("optimizer.lr=log:0:1", "a logarithm needs numbers above 0, found 0"),
        ("optimizer.lr=log:1:1e-5", "expected LOW:HIGH, found 1 above 1e-05"),
        ("optimizer.lr=log:a:1", "expected a number, found 'a'"),
        ("optimizer.lr=linear:nan:1", "expected a number, found 'nan'"),
        ("training.epochs=int:1.5:3", "expected whole numbers"),
        ("training.epochs=int:0:3", "training.epochs: expected at least 1, found 0"),
        ("training.batch_size=choice:4:x", "training.batch_size: expected int, found str 'x'"),
        ("training.batch_size=choice:4:[", "is not valid YAML"),
    ],
)
def test_a_mistaken_range_is_told_before_the_first_trial(recipe, tmp_path, capsys, search, words):
    out = tmp_path / "out"
    assert main(["sweep", recipe, "--search", search, "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and not out.exists()


def test_a_folder_of_another_search_and_one_that_cannot_be_written(recipe, tmp_path, capsys):
    sweep(recipe, [parse_axis("training.batch_size=choice:3")], tmp_path / "out", trials=1)
    with pytest.raises(VitreousError, match="holds a search of other settings"):
        sweep(recipe, [parse_axis("training.seed=int:0:3")], tmp_path / "out", trials=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(VitreousError, match="cannot write"):
        sweep(recipe, [parse_axis("training.seed=int:0:3")], tmp_path / "file" / "x", trials=1)
    axes = [parse_axis("training.seed=int:0:3")]
    with pytest.raises(VitreousError, match="cannot open the study nonsense"):
        sweep(recipe, axes, tmp_path / "b", trials=1, storage="nonsense")


@pytest.mark.parametrize("text", ["optimizer.lr", "a=log:1", "a=cubic:1:2", "=log:1:2"])
def test_other_forms_are_refused(text: str):
    with pytest.raises(VitreousError, match="expected KEY=log:LOW:HIGH"):
        parse_axis(text)
