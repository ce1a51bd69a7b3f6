"""Several workers of one sweep: one killed, all killed, all stopped; no trial twice, none lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.errors import InterruptedRun, VitreousError
from vitreous.locks import LOCK
from vitreous.training import sweep_jobs, sweep_locks
from vitreous.training.run import RunFolder
from vitreous.training.sweep import parse_axis, sweep
from vitreous.training.sweep_trials import Search

TRIALS = 3
SEARCH = f"training.seed=int:0:{TRIALS - 1}"


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A small recipe of many short epochs, so that a worker is killed in the midst of a trial."""
    write_masked_set(tmp_path / "set", per_class=3)
    training = {"epochs": 12, "batch_size": 6, "trackers": [], "samples": 0}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "set", training=training)))
    return str(path)


@contextlib.contextmanager
def started(recipe: str, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sweep of two workers."""
    code = "import sys; from vitreous.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["--search", SEARCH, "--trials", str(TRIALS), "--jobs", "2", "--out", str(out)]
    command = [sys.executable, "-c", code, "sweep", recipe, *options]
    with (
        out.with_suffix(".log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, "the sweep ended"
        time.sleep(0.02)


def begun(out: Path, number: int) -> Callable[[], bool]:
    return RunFolder(out / f"trial_{number:04d}").previous_checkpoint.is_file


def worker_of(out: Path, number: int) -> int:
    return int(json.loads((out / f"trial_{number:04d}" / LOCK).read_text())["process"])


def holder(out: Path, number: int) -> int | None:
    """Who trains a trial; None where nobody has begun."""
    try:
        return worker_of(out, number)
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def halt(process: int, out: Path) -> None:
    """Stop a process where it does not hold the study's file, for which others would wait."""
    while True:
        os.kill(process, signal.SIGSTOP)
        time.sleep(0.02)
        study = sqlite3.connect(out / "study.db", timeout=0)
        with contextlib.closing(study), contextlib.suppress(sqlite3.OperationalError):
            study.execute("BEGIN IMMEDIATE")
            return
        os.kill(process, signal.SIGCONT)
        time.sleep(0.02)


@contextlib.contextmanager
def halted(process: int, out: Path) -> Iterator[None]:
    """Stop a process for a while, whatever comes."""
    halt(process, out)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "(zombie)" in Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except (ProcessLookupError, FileNotFoundError):
        return True


def states(out: Path, recipe: str) -> list[str]:
    name, storage = recipe.replace("/", "-"), f"sqlite:///{out / 'study.db'}"
    return [t.state.name for t in optuna.load_study(study_name=name, storage=storage).trials]


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be halted here")
def test_workers_and_then_the_first_process_are_killed_and_no_trial_is_lost_or_twice(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with started(recipe, out) as first, contextlib.ExitStack() as stack:
        wait_for(begun(out, 0), first)
        killed = worker_of(out, 0)
        stack.enter_context(halted(killed, out))
        wait_for(begun(out, 1), first)
        other = worker_of(out, 1)
        stack.enter_context(halted(other, out))  # it could take up what is the new one's
        assert len({first.pid, killed, other}) == 3
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: holder(out, 0) not in {killed, other, None}, first)
        new = worker_of(out, 0)
        first.kill()
    while not (gone(new) and gone(other)):
        time.sleep(0.02)
    assert "Traceback" not in out.with_suffix(".log").read_text(encoding="utf-8")
    assert states(out, recipe) == ["RUNNING"] * 2, "both stopped when the first process died"
    assert not holder(out, 0) and not holder(out, 1), "in order"
    options = ["--search", SEARCH, "--trials", str(TRIALS), "--quiet"]
    for folder in (out, tmp_path / "alone"):
        assert main(["sweep", recipe, *options, "--out", str(folder)]) == 0
    assert states(out, recipe) == ["COMPLETE"] * TRIALS
    together, alone = (table(folder) for folder in (out, tmp_path / "alone"))
    assert together == alone and len(together) == TRIALS
    for number in range(TRIALS):
        rows = RunFolder(out / f"trial_{number:04d}").read_metrics()
        epochs = [row["epoch"] for row in rows if row["split"] == "validation"]
        assert epochs == list(range(13)), "no epoch twice"


def table(folder: Path) -> dict[str, str]:
    """Seed → figure; which trial tried a seed first depends on the workers."""
    lines = [line.split(",") for line in (folder / "trials.csv").read_text().splitlines()[1:]]
    assert all(line[1] == "complete" for line in lines)
    return {line[3]: line[2] for line in lines}


@dataclasses.dataclass
class FakeProcess:
    """A process that is over as soon as it has begun; or, without a code, once it is asked to."""

    exitcode: int | None
    sentinel: int
    asked: list[str]

    def terminate(self) -> None:
        self.asked.append("terminate")

    def kill(self) -> None:
        self.asked.append("kill")

    def join(self) -> None:
        self.asked.append("join")


@pytest.fixture
def fake_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[FakeProcess]]]:
    """Workers that end with a code, and tell that the disk is full."""
    with contextlib.ExitStack() as stack:

        def prepare(code: int | None, then: Callable[[], None] = lambda: None):
            begun: list[FakeProcess] = []

            def start(search, number, jobs):
                (told, tells), (waits, ended) = (multiprocessing.Pipe(False) for _ in range(2))
                for pipe in (told, tells, waits):
                    stack.callback(pipe.close)
                ended.close()
                tells.send("the disk is full")
                begun.append(FakeProcess(code, waits.fileno(), []))
                then()
                process: Any = begun[-1]
                return sweep_jobs._Worker(number, process, told)

            monkeypatch.setattr(sweep_jobs._Worker, "start", start)
            return begun

        yield prepare


@pytest.mark.parametrize(
    ("code", "words", "count"),
    [(-signal.SIGKILL, r"killed 4 times.*fewer --jobs", 5), (1, "the disk is full", 2)],
)
def test_workers_that_cannot_work_end_the_sweep_in_one_line(
    code: int, words: str, count: int, tmp_path: Path, fake_workers
) -> None:
    begun = fake_workers(code)
    with pytest.raises(VitreousError, match=words):
        sweep_jobs.work_together(Search("none", [], tmp_path, 1), 2)
    assert len(begun) == count


def test_a_signal_lets_all_workers_save_and_end(tmp_path: Path, fake_workers, capsys) -> None:
    begun = fake_workers(None, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(InterruptedRun, match=r"stopped 2 workers, .*goes on from there") as told:
        sweep_jobs.work_together(Search("none", [], tmp_path, 1), 2)
    assert told.value.status == 128 + signal.SIGTERM
    assert all(process.asked[:2] == ["terminate", "join"] for process in begun)


def test_each_worker_has_its_own_gpu_where_there_are_several(monkeypatch) -> None:
    monkeypatch.setattr(sweep_jobs.torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv(sweep_jobs.VISIBLE, "4,5,7")
    seen = []
    for number in range(4):
        with monkeypatch.context() as patch:
            patch.setenv(sweep_jobs.VISIBLE, "4,5,7")
            sweep_jobs.take_share(number, 4)
            seen.append(os.environ[sweep_jobs.VISIBLE])
    assert seen == ["4", "5", "7", "4"]


def test_a_sweep_in_several_processes_of_a_launcher_is_refused(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(VitreousError, match="start it once, with --jobs 2"):
        sweep(recipe, [parse_axis(SEARCH)], tmp_path / "out", trials=1)


def test_a_worker_waits_for_a_file_that_another_holds(tmp_path: Path) -> None:
    """SQLite itself is asked how many milliseconds a question waits: 5,000 by default."""
    with sweep_locks.open_storage(None, tmp_path).engine.connect() as connection:
        waits = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    assert waits == 1000 * sweep_locks.PATIENCE > 60_000
