"""A sweep that workers share by PostgreSQL: a real server, real workers, one of them killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from helpers import tiny_recipe, write_masked_set
from training.postgresql import postgresql
from vitreous.cli import main
from vitreous.training.run import RunFolder
from vitreous.training.sweep_locks import DatabaseLocks, database_url, open_storage

optuna = pytest.importorskip("optuna")
TRIALS, EPOCHS = 3, 20


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    write_masked_set(tmp_path / "set", per_class=3)
    training = {"epochs": EPOCHS, "batch_size": 3, "trackers": [], "samples": 0}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "set", training=training)))
    return str(path)


@pytest.mark.long
def test_one_worker_is_killed_and_the_other_takes_up_its_trial(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with postgresql() as url:
        out = tmp_path / "out"
        search = ["--search", f"training.seed=int:0:{TRIALS - 1}", "--trials", str(TRIALS)]
        command = ["sweep", recipe, *search, "--storage", url, "--out", str(out), "--quiet"]
        code = "import sys; from vitreous.cli import main; sys.exit(main(sys.argv[1:]))"
        pipe = subprocess.DEVNULL
        with subprocess.Popen(
            [sys.executable, "-c", code, *command], stdout=pipe, stderr=pipe
        ) as first:
            try:
                while not RunFolder(out / "trial_0000").previous_checkpoint.is_file():
                    assert first.poll() is None, "the first worker ended"
                    time.sleep(0.02)
                os.kill(first.pid, signal.SIGSTOP)  # at work, and not ending by itself
                assert main(command) == 0
                states = [trial.state.name for trial in stored(url, recipe)]
                assert states == ["RUNNING", *["COMPLETE"] * (TRIALS - 1)], "left to its worker"
            finally:
                first.kill()
        before = RunFolder(out / "trial_0000").load_state()
        assert before is not None and before["progress"]["epoch"] < EPOCHS
        assert main(command) == 0
        trials = stored(url, recipe)
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * TRIALS
        assert sorted(trial.params["training.seed"] for trial in trials) == list(range(TRIALS))
        folders = sorted(folder.name for folder in out.glob("trial_*"))
        assert folders == [f"trial_{number:04d}" for number in range(TRIALS)]
        rows = RunFolder(out / "trial_0000").read_metrics()
        epochs = [row["epoch"] for row in rows if row["split"] == "validation"]
        assert epochs == list(range(EPOCHS + 1)), "gone on with, no epoch twice"
        whole = ["--storage", f"sqlite:///{tmp_path}/other.db", "--out", str(tmp_path / "other")]
        assert main(["sweep", recipe, *search, *whole, "--quiet"]) == 0
        alone = stored(f"sqlite:///{tmp_path}/other.db", recipe)
        assert [trial.value for trial in alone] == [trial.value for trial in trials]


def stored(url: str, recipe: str) -> list[optuna.trial.FrozenTrial]:
    name = recipe.replace("/", "-")
    storage = open_storage(url, Path())
    return optuna.load_study(study_name=name, storage=storage).trials


def test_a_lock_of_the_database_ends_with_its_connection() -> None:
    with postgresql() as url:
        first, second = (DatabaseLocks(database_url(url), "a study") for _ in range(2))
        lock = first.trial(0)
        assert lock is not None and second.trial(0) is None and second.trial(1) is not None
        with lock:
            pass
        assert second.trial(0) is not None and first.trial(0) is None
        second.connection.invalidate()
        second.connection.close()
        while first.trial(0) is None:
            time.sleep(0.02)
        for locks in (first, second):
            locks.close()
