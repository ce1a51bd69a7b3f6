"""One writer at a time: who holds a folder is told, and the dead hold nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from helpers import tiny_recipe, write_masked_set
from vitreous import locks
from vitreous.cli import main
from vitreous.config import to_yaml
from vitreous.locks import LOCK, FolderInUse, folder_lock

HOLDING = """
import os, sys, time
from vitreous.locks import folder_lock
with folder_lock(sys.argv[1], "training"):
    if len(sys.argv) > 2 and os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(folder: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the folder until it reads a line or is killed."""
    command = [sys.executable, "-c", HOLDING, str(folder), *more]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_a_second_writer_is_told_who_holds_the_folder(tmp_path):
    with holder(tmp_path / "run") as first:
        with pytest.raises(FolderInUse) as caught, folder_lock(tmp_path / "run", "training"):
            pass
        line = str(caught.value)
        assert f"process {first.pid} on " in line and "(training, since 2" in line
        assert first.stdin is not None
        first.communicate(b"\n")
        assert first.returncode == 0
    assert not (tmp_path / "run" / LOCK).exists()
    with folder_lock(tmp_path / "run", "training"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["process"] == os.getpid()
    assert not list((tmp_path / "run").iterdir())


def test_a_killed_holder_holds_nothing_although_its_workers_live_on(tmp_path):
    with holder(tmp_path, "with a worker") as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert (tmp_path / LOCK).is_file()
        with folder_lock(tmp_path, "training"):
            pass
        os.killpg(first.pid, signal.SIGKILL)  # its worker
    assert not list(tmp_path.iterdir())


def test_the_same_process_may_take_it_again_and_other_ranks_pass(tmp_path):
    with folder_lock(tmp_path, "a demo"):
        with folder_lock(tmp_path, "training"):
            pass
        assert (tmp_path / LOCK).is_file()
        with holder(tmp_path / "other"), folder_lock(tmp_path / "other", "training", main=False):
            pass
    assert not (tmp_path / LOCK).exists()


RACING = """
import sys, time
from pathlib import Path
from vitreous.locks import FolderInUse, folder_lock
folder, done = Path(sys.argv[1]), 0
print("ready", flush=True)
sys.stdin.readline()
while done < 25:
    try:
        with folder_lock(folder, "counting"):
            count = folder / "count"
            number = int(count.read_text()) if count.exists() else 0
            count.write_text(str(number + 1))
            done += 1
    except FolderInUse:
        pass
"""


def test_of_many_that_race_one_writes_at_a_time(tmp_path):
    command = [sys.executable, "-c", RACING, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert (tmp_path / "count").read_text() == "100"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


@pytest.mark.parametrize(
    ("note", "free"),
    [
        ({"process": 2**22 + 1, "host": "here"}, True),
        ({"process": os.getppid(), "host": "here"}, False),
        ({"process": 2**22 + 1, "host": "elsewhere"}, False),
        (None, True),
    ],
)
def test_without_locks_of_the_file_system_the_note_decides(tmp_path, monkeypatch, note, free):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    text = "" if note is None else json.dumps({**note, "since": "then", "purpose": "training"})
    (tmp_path / LOCK).write_text(text)
    if free:
        with folder_lock(tmp_path, "training"):
            pass
        return
    with pytest.raises(FolderInUse, match="if that is over, delete"), folder_lock(tmp_path, "x"):
        pass


def test_training_and_masking_refuse_a_folder_in_use(tmp_path, capsys):
    write_masked_set(tmp_path / "set", classes=2, per_class=2)
    (tmp_path / "recipe.yaml").write_text(to_yaml(tiny_recipe(tmp_path / "set")))
    Image.new("RGBA", (40, 40), (9, 9, 9, 255)).save(tmp_path / "set" / "a.png")
    commands = {
        "run": ["train", str(tmp_path / "recipe.yaml"), "--quiet"],
        "masks": ["mask", str(tmp_path / "set"), "--method", "alpha"],
    }
    for name, arguments in commands.items():
        with holder(tmp_path / name) as first:
            assert main([*arguments, "--out", str(tmp_path / name)]) == 1
            line = capsys.readouterr().err.strip().splitlines()[-1]
            assert f"is in use by process {first.pid}" in line
        assert [path.name for path in (tmp_path / name).iterdir()] == [LOCK]
