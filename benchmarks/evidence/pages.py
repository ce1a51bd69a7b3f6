"""Where a script writes its tables: between two marks of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitreous.io import write_text


def write_between(page: Path, marks: tuple[str, str], lines: Sequence[str]) -> None:
    """Put lines between two marks of a page, with an empty line before and behind them.

    Args:
        page: A text file that has both marks, once each.
        marks: What stands before and behind the lines, and stays.
        lines: The new lines.
    """
    before, rest = page.read_text(encoding="utf-8").split(marks[0])
    _, behind = rest.split(marks[1])
    made = "\n".join(lines).rstrip("\n")
    write_text(page, f"{before}{marks[0]}\n\n{made}\n\n{marks[1]}{behind}")
