"""Rows on disk: appended as they come, so that a killed evaluation goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import VitreousError
from vitreous.io import read_json, write_json


def fingerprint(header: dict[str, Any]) -> str:
    """Eight characters that tell one evaluation (model, set, settings) from another."""
    text = json.dumps(header, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class Shards:
    """Rows of one evaluation in a folder: `header.json` and one `rows-RANK.bin` for each process.

    Args:
        folder: The folder; made when the first row is written.
        header: What the rows are: they are only gone on with under the same header.
        kind: Type of a row; its first field is the picture's `index`.
        rank: Number of this process.
    """

    def __init__(self, folder: Path, header: dict[str, Any], kind: np.dtype, rank: int = 0):
        self.folder, self.kind, self._rank = folder, kind, rank
        self.header = json.loads(json.dumps(header, default=str))
        stored = folder / "header.json"
        if stored.is_file() and read_json(stored) != self.header:
            raise VitreousError(
                f"{folder} holds rows of another evaluation (its header.json differs); "
                "delete it, or choose another --out"
            )

    def read(self) -> np.ndarray:
        """Read all whole rows of all processes, one for each picture, sorted by index."""
        parts = [self._whole(f) for f in sorted(self.folder.glob("rows-*.bin"))]
        rows = np.concatenate(parts) if parts else np.zeros(0, self.kind)
        _, first = np.unique(rows["index"], return_index=True)
        return rows[first]

    def reasons(self) -> dict[int, str]:
        """Read why pictures could not be read: index → reason."""
        found: dict[int, str] = {}
        for file in sorted(self.folder.glob("unreadable-*.jsonl")):
            for line in file.read_text("utf-8").splitlines():
                if line.endswith("]"):
                    index, reason = json.loads(line)
                    found[index] = reason
        return found

    def append(self, rows: np.ndarray, reasons: dict[int, str]) -> None:
        """Add rows; reasons go to disk before them, so that no row is without its reason."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "header.json").exists():
            write_json(self.folder / "header.json", self.header)
        try:
            if reasons:
                lines = "".join(json.dumps([i, r]) + "\n" for i, r in reasons.items())
                self._append(f"unreadable-{self._rank}.jsonl", lines.encode())
            self._append(f"rows-{self._rank}.bin", rows.astype(self.kind).tobytes())
        except OSError as error:
            raise VitreousError(
                f"cannot write {self.folder}: {error.strerror or error}; free some space and run "
                "the same command again, it goes on where it was"
            ) from error

    def _append(self, name: str, content: bytes) -> None:
        """Append after the last whole record; what a killed process left half is written over."""
        file = self.folder / name
        with file.open("r+b" if file.exists() else "w+b") as opened:
            if name.startswith("rows"):
                end = opened.seek(0, os.SEEK_END)
                opened.seek(end - end % self.kind.itemsize)
                opened.truncate()
            else:
                opened.seek(0, os.SEEK_END)
            opened.write(content)

    def _whole(self, file: Path) -> np.ndarray:
        content = file.read_bytes()
        return np.frombuffer(content[: len(content) - len(content) % self.kind.itemsize], self.kind)
