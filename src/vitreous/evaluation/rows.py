"""Rows on disk: appended as they come, so that a killed evaluation goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vitreous.disk import writing
from vitreous.io import write_json

READ, UNREADABLE, NOT_FINITE = 0, 1, 2
ITEM = (("key", "u8"), ("index", "i4"), ("status", "i1"))


def item_type(fields: list[object]) -> np.dtype:
    """Type of a row: what tells the item, and the fields of an evaluator.

    Every row has `key`, the item's `Dataset.key`; `index`, its number; and `status` (0 read,
    1 unreadable, 2 the logits are not finite).
    """
    return np.dtype([*ITEM, *fields])


class RowStore:
    """Rows of one evaluation in a folder: `header.json` and one `rows-RANK.bin` for each process.

    The first process writes the header; of what is left to measure it always has a share.

    Args:
        folder: The folder; made when the first row is written.
        header: What the rows depend on, for a reader of the folder.
        kind: Type of a row, made by `item_type`.
        rank: Number of this process.
    """

    def __init__(self, folder: Path, header: dict[str, object], kind: np.dtype, rank: int = 0):
        self.folder, self.header, self.kind, self._rank = folder, header, kind, rank

    def read(self) -> np.ndarray:
        """Read all whole rows of all processes, one for each key.

        Of several rows of a key, one that was read goes before one that was not, and the last
        of a file before the others.
        """
        parts = [self._whole(f) for f in sorted(self.folder.glob("rows-*.bin"))]
        rows = np.concatenate(parts) if parts else np.zeros(0, self.kind)
        rows = rows[::-1]
        rows = rows[np.argsort(rows["status"] == UNREADABLE, kind="stable")]
        _, first = np.unique(rows["key"], return_index=True)
        return rows[first]

    def reasons(self) -> dict[int, str]:
        """Read why images could not be read: key → reason, the last of each."""
        known: dict[int, str] = {}
        for file in sorted(self.folder.glob("unreadable-*.jsonl")):
            for line in file.read_text("utf-8").splitlines():
                if line.endswith("]"):
                    key, reason = json.loads(line)
                    known[key] = reason
        return known

    def append(self, rows: np.ndarray, reasons: dict[int, str]) -> None:
        """Add rows; reasons (by key) go to disk first, so that no row is without its reason."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._rank == 0 and not (self.folder / "header.json").exists():
                write_json(self.folder / "header.json", self.header)
            if reasons:
                lines = "".join(json.dumps([k, r]) + "\n" for k, r in reasons.items())
                self._append(f"unreadable-{self._rank}.jsonl", lines.encode())
            self._append(f"rows-{self._rank}.bin", rows.astype(self.kind).tobytes())

    def clear(self) -> None:
        """Delete the rows of this evaluation."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _append(self, name: str, content: bytes) -> None:
        """Append after the last whole record; what a killed process left half is written over."""
        file = self.folder / name
        with file.open("r+b" if file.exists() else "w+b") as opened:
            end = opened.seek(0, os.SEEK_END)
            if name.startswith("rows"):
                opened.seek(end - end % self.kind.itemsize)
                opened.truncate()
            elif end and _last_byte(opened, end) != b"\n":
                opened.write(b"\n")
            opened.write(content)

    def _whole(self, file: Path) -> np.ndarray:
        content = file.read_bytes()
        return np.frombuffer(content[: len(content) - len(content) % self.kind.itemsize], self.kind)


def _last_byte(opened: BinaryIO, end: int) -> bytes:
    opened.seek(end - 1)
    return opened.read(1)
