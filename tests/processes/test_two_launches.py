"""Two launches, one run folder: the second is refused whole, and a killed one leaves it free."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from helpers import tiny_recipe, write_masked_set
from processes.launch import launch, prepare_launch
from vitreous.cli import main
from vitreous.disk import alive
from vitreous.locks import LOCK
from vitreous.training.run import RunFolder

LONG = 2000


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A training that does not end by itself in the time of a test."""
    write_masked_set(tmp_path / "set")
    training = {"epochs": LONG, "batch_size": 6, "trackers": [], "samples": 0}
    values = tiny_recipe(tmp_path / "set", training=training, schedule={"name": "constant"})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return ["train", str(tmp_path / "recipe.yaml"), "--quiet", "--out", str(tmp_path / "run")]


@contextlib.contextmanager
def running(command: list[str], notes: Path, folder: RunFolder) -> Iterator[dict[str, object]]:
    """Two processes that train in a folder and have saved; yields what the lock tells of them."""
    program, environment = prepare_launch(notes, [command], 2)
    pipe = subprocess.DEVNULL
    with subprocess.Popen(
        program, env=environment, start_new_session=True, stdout=pipe, stderr=pipe
    ) as process:
        try:
            while not folder.previous_checkpoint.is_file():
                assert process.poll() is None, "the first launch ended"
                time.sleep(0.05)
            yield json.loads((folder.path / LOCK).read_text())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.long
def test_the_second_is_refused_whole_and_a_killed_one_is_taken_over(command, tmp_path) -> None:
    folder = RunFolder(tmp_path / "run")
    with running(command, tmp_path / "first", folder) as holder:
        second = launch(tmp_path / "second", *command)
        assert second.code == 1 and second.seen == [2, 2]
        words = f"is in use by process {holder['process']} on "
        assert second.messages.count(words) == 2, "both processes are told"
        assert second.messages.count("Traceback") == 1, "the launcher's own alone"
        assert not any(second.written_in(folder.path))
        os.kill(int(str(holder["process"])), signal.SIGKILL)
    assert (folder.path / LOCK).is_file(), "the killed holder could not remove it"
    while alive(int(str(holder["process"]))):
        time.sleep(0.05)  # its launcher is gone: who takes it in ends it
    done = max(int(str(row["epoch"])) for row in folder.read_metrics())
    assert main([*command, "--training.epochs", str(done + 1)]) == 0, "taken over"
    validated = [row["epoch"] for row in folder.read_metrics() if row["split"] == "validation"]
    assert validated == list(range(done + 2)) and not (folder.path / LOCK).exists()


def test_processes_that_accelerate_does_not_join_are_refused(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A launcher that says only how many there are: each would take itself for the only one."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command) == 1 and not (tmp_path / "run").exists()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "WORLD_SIZE says 2 processes, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are" in line
