"""What would break on Windows or on a Mac breaks here."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch

import vitreous
from portable.one_of_each import WORDS, do_all, more_measures, prepare, steps
from portable.refusals import NoDoublePrecision, forbidden_parts, strict_sync
from vitreous.io import write_text
from vitreous.names import folder_name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one of each command leaves, made without double precision and with a strict sync."""
    root = prepare(tmp_path_factory.mktemp("portable"))
    with pytest.MonkeyPatch.context() as patch, NoDoublePrecision():
        patch.setattr(os, "fsync", strict_sync)
        do_all([*steps(root, workers=0), *more_measures(root)])
    return root


def test_training_evaluation_attacks_and_maps_need_no_double_precision(made):
    assert (made / "run" / "results.json").is_file() and (made / "card.html").is_file()
    with NoDoublePrecision(), pytest.raises(TypeError, match="float64"):
        torch.ones(2).double()


def test_files_have_names_that_windows_can_make(made):
    names = [path.relative_to(made.parent) for path in made.rglob("*")]
    assert len(names) > 40
    assert [path for path in names if forbidden_parts(path)] == []
    assert max(len(part.encode()) for path in names for part in path.parts) < 200


def test_a_forbidden_name_is_seen_and_no_folder_name_is_one():
    for name in ("a:b", "what?", "a\\b", "dot.", "nul.png", "COM1", "trailing "):
        assert forbidden_parts(PurePath(name)) == [name]
        assert forbidden_parts(PurePath(folder_name(name))) == []
    assert forbidden_parts(PurePath("nullable/comment.png")) == []


def test_nothing_is_synced_that_is_open_for_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", strict_sync)
    assert write_text(tmp_path / "a.txt", "ä").read_text(encoding="utf-8") == "ä"
    with (tmp_path / "a.txt").open("rb") as opened, pytest.raises(OSError, match="for reading"):
        os.fsync(opened.fileno())


def test_names_are_stored_with_the_strokes_of_every_system(made):
    """No listing that another machine may read holds this system's way of writing a path."""
    listings = [*made.rglob("*.json"), *made.rglob("*.csv"), *made.rglob("manifest*")]
    assert len(listings) > 4
    texts = {path.name: path.read_text(encoding="utf-8") for path in listings}
    assert [name for name, text in texts.items() if "\\\\" in text] == []
    with np.load(next((made / "explained").glob("*.npz")), allow_pickle=False) as arrays:
        assert not any("\\" in name for name in arrays.files)


def relative_paths_as_text(tree: ast.AST) -> list[int]:
    """Lines with `str(….relative_to(…))`, which has backslashes on Windows."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, (ast.Call, ast.FormattedValue))
        and (not isinstance(node, ast.Call) or ast.unparse(node.func) in ("str", "os.fspath"))
        and ".relative_to(" in (text := ast.unparse(node))
        and "as_posix" not in text
        and "is_relative_to" not in text
    ]


def test_no_relative_path_becomes_text_in_this_systems_way():
    wrong = {
        path.name: lines
        for path in Path(vitreous.__file__).parent.rglob("*.py")
        if (lines := relative_paths_as_text(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert wrong == {}
    assert relative_paths_as_text(ast.parse("x = str(a.relative_to(b))")) == [1]
    assert relative_paths_as_text(ast.parse("x = f'{a.relative_to(b)}'")) == [1]


def text_without_encoding(tree: ast.AST) -> list[int]:
    """Lines with `read_text` or `write_text` of a path that tell no encoding."""
    least = {"read_text": 1, "write_text": 2}  # positional arguments, of which it is the last
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in least
        and len(node.args) < least[node.func.attr]
        and not any(keyword.arg == "encoding" for keyword in node.keywords)
    ]


def test_text_is_read_and_written_in_an_encoding_that_is_told():
    """Ruff's rule sees only what it knows to be a path."""
    wrong = {
        path.name: lines
        for path in Path(vitreous.__file__).parent.rglob("*.py")
        if (lines := text_without_encoding(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert wrong == {}
    assert text_without_encoding(ast.parse("a.read_text()\nb.read_text('utf-8')")) == [1]
    assert text_without_encoding(ast.parse("a.write_text('x')")) == [1]


# What only Unix has; `hasattr` or a guarded import must stand before it.
UNIX_ONLY = {
    "fork",
    "statvfs",
    "pread",
    "pwrite",
    "getuid",
    "killpg",
    "SIGKILL",
    "SIGHUP",
    "mkfifo",
}


def test_nothing_is_asked_of_the_system_that_only_unix_has():
    named = {
        (path.name, node.attr)
        for path in Path(vitreous.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("os", "signal")
    }
    assert len(named) > 10
    assert [pair for pair in sorted(named) if pair[1] in UNIX_ONLY] == []


@pytest.mark.long
@pytest.mark.timeout(1200)  # workers that are spawned import torch anew
def test_spawned_workers_and_told_encodings_do_in_a_folder_with_any_name(tmp_path):
    """In a process of its own, whose default encoding is not UTF-8."""
    program = Path(__file__).with_name("one_of_each.py")
    environment = {**os.environ, "PYTHONWARNDEFAULTENCODING": "1", "PYTHONUTF8": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(program.parents[1]), str(Path(vitreous.__file__).parents[1])]
    )
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / WORDS / "card.html").is_file()
