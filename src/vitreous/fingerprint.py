"""Digests of plain values: the keys under which results are kept and found again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np


def digest(*values: object) -> str:
    """Tell values from other values: 16 hexadecimal characters.

    Takes what JSON takes, and dataclasses, paths, sets and arrays. Order matters in lists, not in
    mappings; 1, 1.0 and "1" differ.

    Raises:
        TypeError: For a value that has no stable text.
    """
    text = json.dumps(values, sort_keys=True, default=_plain)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def named_content(path: Path) -> str:
    """Name of a file or folder with eight digits that its content decides, for settings of records.

    Of a folder, the names and sizes of the files in it count. It is the same wherever it lies.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        content = [(file.relative_to(path).as_posix(), file.stat().st_size) for file in files]
        return f"{path.resolve().name} ({digest(content)[:8]})"
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=8))
    return f"{path.name} ({found.hexdigest()[:8]})"


def number_of(text: str) -> int:
    """64 bits that follow from a text (which may hold bytes that are no UTF-8) alone."""
    content = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(content.digest(), "little")


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"": type(value).__name__, **fields}
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, np.ndarray):
        content = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=8)
        return [str(value.dtype), list(value.shape), content.hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no stable text, so it cannot be part of a key")
