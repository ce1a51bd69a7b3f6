"""Jobs: stopped by a signal, queued again, and ended as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.locks import LOCK
from vitreous.training.run import RunFolder
from vitreous.training.submission import Resources

pytest.importorskip("submitit")


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    write_masked_set(tmp_path / "set")
    training = {"epochs": 12, "batch_size": 3, "trackers": [], "samples": 0}
    path = tmp_path / "recipe.yaml"
    # Adam would make steps of rounding, where a gradient is nothing else: the bias of the keys.
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    values = tiny_recipe(tmp_path / "set", training=training, optimizer=optimizer)
    path.write_text(yaml.safe_dump(values))
    return str(path)


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def job_folder(folder: RunFolder) -> Path:
    return folder.path / "jobs"


@pytest.mark.long
# submitit's controller outlives the command that started it, of which Python warns.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=lambda n: n.name)
def test_a_job_that_is_told_to_stop_saves_and_goes_on_when_queued_again(
    number: signal.Signals, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = 2 if number == signal.SIGUSR1 else 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = RunFolder(tmp_path / "job")
    options = ["--submit", "local", "--processes", str(processes), "--out", str(folder.path)]
    assert main(["train", recipe, *options]) == 0
    wait_for(folder.previous_checkpoint.is_file)
    first = json.loads((folder.path / LOCK).read_text())["process"]
    os.kill(first, number)
    wait_for((folder.path / "results.json").is_file)
    (log,) = job_folder(folder).glob("*_0_log.out")
    wait_for(lambda: "Job completed successfully" in log.read_text())
    told = log.read_text()
    assert "saved in" in told and "the same command goes on from there" in told
    (errors,) = job_folder(folder).glob("*_0_log.err")
    assert "Requeued" in told + errors.read_text()
    assert main(["train", recipe, "--quiet", "--out", str(tmp_path / "whole")]) == 0
    states = [RunFolder(tmp_path / n).load_state() for n in ("job", "whole")]
    rounding = 0.0 if processes == 1 else 1e-5
    for key, value in states[1]["model"].items():
        torch.testing.assert_close(states[0]["model"][key], value, atol=rounding, rtol=0)
    metrics = [RunFolder(tmp_path / name).read_metrics() for name in ("job", "whole")]
    rows = [[(row["step"], row["split"]) for row in table] for table in metrics]
    assert rows[0] == rows[1]


def test_what_is_asked_of_slurm() -> None:
    asked = Resources(minutes=60, nodes=2, gpus=8, memory=200, partition="a").parameters("slurm")
    assert asked == {
        "timeout_min": 60,
        "nodes": 2,
        "tasks_per_node": 8,
        "gpus_per_node": 8,
        "cpus_per_task": 4,
        "slurm_signal_delay_s": 120,
        "mem_gb": 200,
        "slurm_partition": "a",
    }
    assert Resources(processes=3).parameters("local")["tasks_per_node"] == 3


def test_without_a_cluster_or_the_package_there_is_one_line(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    command = ["train", recipe, "--submit", "slurm", "--out", str(tmp_path / "out")]
    assert main(command) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--submit slurm" in line and "srun" in line
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(command) == 1
    assert "vitreous[slurm]" in capsys.readouterr().err and not (tmp_path / "out").exists()
