"""A log that is no terminal gets whole lines, not a bar drawn over itself."""

from __future__ import annotations

import pytest

from vitreous import progress
from vitreous.progress import ProgressBar


def test_a_log_gets_lines_and_no_carriage_return(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with ProgressBar(total=4, desc="photos", unit="im") as bar:
        for _ in range(4):
            bar.update(1)
    told = capsys.readouterr().err
    assert "\r" not in told and "\x1b" not in told
    lines = told.splitlines()
    assert [line.partition(" of ")[0] for line in lines[-4:]] == [f"photos: {i}" for i in "1234"]
    assert " of 4" in lines[-1]


def test_what_is_done_in_no_time_or_quietly_says_nothing(capsys):
    assert list(ProgressBar(range(50), desc="photos")) == list(range(50))
    assert list(ProgressBar(range(3), desc="photos", quiet=True)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_keeps_its_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with ProgressBar(total=2, desc="photos") as bar:
        bar.update(2)
    assert "\r" in capsys.readouterr().err


@pytest.mark.parametrize("total", [None, 3])
def test_an_unknown_length_is_no_trouble(capsys, monkeypatch, total):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with ProgressBar(total=total, desc="rows") as bar:
        bar.update(1)
    assert "rows: 1" in capsys.readouterr().err
