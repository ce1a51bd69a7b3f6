"""Ctrl-C and SIGTERM: once, the step is finished and saved; twice, the run ends at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
import yaml

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import ended_as_by_hand, main
from vitreous.errors import InterruptedRun
from vitreous.training.engine import Trainer
from vitreous.training.interrupt import StopRequest


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    write_masked_set(tmp_path / "set", per_class=4)
    values = tiny_recipe(tmp_path / "set")
    values["training"] = {**values["training"], "epochs": 2, "batch_size": 2, "samples": 0}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("workers", [0, 1])
def test_once_finishes_the_step_and_the_same_command_ends_as_if_unbroken(
    recipe, tmp_path, capsys, monkeypatch, number, workers
):
    arguments = ["train", recipe, "--quiet", "--training.workers", str(workers), "--out"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    step = Trainer.step

    def interrupted(trainer, batch, whole):
        if trainer.progress.step == 2:
            os.kill(os.getpid(), number)
        return step(trainer, batch, whole)

    before = signal.getsignal(number)
    monkeypatch.setattr(Trainer, "step", interrupted)
    assert main([*arguments, str(tmp_path / "broken")]) == 128 + number
    told = capsys.readouterr().err
    assert "stopped at step 3 of" in told and "the same command goes on" in told
    assert "Traceback" not in told and signal.getsignal(number) == before
    monkeypatch.setattr(Trainer, "step", step)
    assert main([*arguments, str(tmp_path / "broken")]) == 0
    for name in ("whole", "broken"):
        assert (tmp_path / name / "results.json").is_file()
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)["model"]
        for name in ("whole", "broken")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_twice_ends_at_once(recipe, tmp_path, capsys, monkeypatch):
    def twice(trainer, batch, whole):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the step went on")

    monkeypatch.setattr(Trainer, "step", twice)
    assert main(["train", recipe, "--quiet", "--out", str(tmp_path / "out")]) == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("vitreous: stopped at once") and len(lines) == 2


def test_what_clusters_and_launchers_send_twice_never_costs_the_step(monkeypatch):
    with StopRequest() as stop:
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.signal == signal.SIGUSR2
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun hands on what all have got
    with StopRequest() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT


def test_what_came_between_two_contexts_stops_the_inner_one_too():
    with StopRequest() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with StopRequest() as inner:
            assert inner.signal == signal.SIGTERM
    assert outer.signal == signal.SIGTERM
    with StopRequest() as next_one:
        assert next_one.signal is None


def test_handlers_are_given_back_after_an_exception():
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(InterruptedRun), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        raise stop.stopped("here")
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_stop_that_comes_while_readers_are_let_go_leaves_no_trace():
    class Reader:
        def __del__(self):
            raise InterruptedRun("stopped at once")

    with ended_as_by_hand():
        Reader()


def test_more_ctrl_c_at_the_end_change_nothing(monkeypatch, capsys):
    class Reader:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)

    def stopped(name, arguments):
        reader = Reader()
        raise InterruptedRun(f"stopped with {type(reader).__name__}")

    monkeypatch.setattr("vitreous.cli.run", stopped)
    before = signal.getsignal(signal.SIGINT)
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "vitreous: stopped with Reader\n"
    assert signal.getsignal(signal.SIGINT) == before
