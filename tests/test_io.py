"""Files written whole or not at all; what goes wrong is told with advice that fits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faults.disks import mounted
from vitreous.disk import tidy, writing
from vitreous.errors import VitreousError
from vitreous.io import append_text, atomic_path, inside, write_json, write_text


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("x" * 256, "choose a shorter name"),
        ("a_folder", "a folder has that name"),
        ("a_file/x.json", "a file stands where a folder is needed"),
    ],
)
def test_the_advice_fits_what_is_in_the_way(tmp_path, place, advice):
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "a_file").write_text("mine")
    with pytest.raises(VitreousError, match=advice) as caught:
        write_text(tmp_path / place, "text")
    assert "free some space" not in str(caught.value) and "unchanged" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_file", "a_folder"]


def test_a_read_only_folder_is_told_as_one(tmp_path):
    root = os.geteuid() == 0
    with mounted(tmp_path / "locked", "size=1m,ro") as done:
        if root and not done:
            pytest.skip("needs the right to mount a disk, or a user who is not root")
        if not root:
            (tmp_path / "locked").chmod(0o555)
        with pytest.raises(VitreousError, match=r"read-only|choose a folder in which you may"):
            write_text(tmp_path / "locked" / "x.json", "text")


def test_names_of_full_length_can_be_written(tmp_path):
    assert write_text(tmp_path / ("x" * 250 + ".json"), "text").read_text() == "text"


def test_errors_that_are_not_of_the_disk_pass_through(tmp_path):
    with pytest.raises(KeyError), atomic_path(tmp_path / "x"):
        raise KeyError("os error")
    with pytest.raises(RuntimeError, match="shapes"), writing(tmp_path / "x"):
        try:
            raise FileNotFoundError(2, "no such file")
        except FileNotFoundError:
            raise RuntimeError("shapes do not fit") from None
    assert not list(tmp_path.iterdir())


def test_appending_adds_lines(tmp_path):
    append_text(tmp_path / "x", "ä\n")
    append_text(tmp_path / "x", "b\n")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "ä\nb\n"


HOLDING = """
import sys, time
from vitreous.io import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_temporaries_of_the_dead_are_tidied_and_those_of_the_living_stay(tmp_path):
    command = [sys.executable, "-c", HOLDING]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    (tmp_path / "deep").mkdir()
    with (
        subprocess.Popen([*command, str(tmp_path / "alive.json")], **pipes) as alive,
        subprocess.Popen([*command, str(tmp_path / "dead.json")], **pipes) as dead,
        subprocess.Popen([*command, str(tmp_path / "deep" / "dead.png")], **pipes) as deep,
    ):
        for process in (alive, dead, deep):
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
        for process in (dead, deep):
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len([p for p in tmp_path.rglob(".vitreous-*") if p.is_file()]) == 3
        (tmp_path / ".vitreous-notes").write_text("not of ours")
        tidy(tmp_path)
        names = [p.name for p in tmp_path.iterdir() if str(alive.pid) in p.name]
        assert len(names) == 1
        assert len(list((tmp_path / "deep").iterdir())) == 1
        tidy(tmp_path, deep=True)
        assert not list((tmp_path / "deep").iterdir())
        alive.communicate(b"\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".vitreous-notes", "alive.json", "deep"]


def test_a_temporary_of_another_machine_stays_until_it_is_old(tmp_path):
    file = tmp_path / ".vitreous-00000000-1-abcdefgh.png"
    file.write_bytes(b"half")
    tidy(tmp_path)
    assert file.is_file()
    os.utime(file, (1, 1))
    tidy(tmp_path)
    assert not file.exists()


OUTSIDE = ["../x", "a/../../x", "/etc/passwd", ".", "", "a\0b", "link/x", "x" * 5000, "loop/x"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_leads_out_of_a_folder_is_refused(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(VitreousError, match="names the file") as caught:
        inside(folder, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x", "a/b.png", "a/../b", "…/ä"])
def test_what_lies_in_a_folder_is_taken(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name


def test_json_that_is_not_finite_is_null(tmp_path: Path):
    file = write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.0]})
    assert '"a": null' in file.read_text() and "Infinity" not in file.read_text()
