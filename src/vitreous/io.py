"""Files written whole or not at all, and JSON that every part of Vitreous reads the same way."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from vitreous.errors import VitreousError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Generator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block succeeds.

    A process killed inside the block, or a full disk, leaves the old file (or none) in place.

    Raises:
        VitreousError: If the disk is full or the folder cannot be written.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise VitreousError(
            f"cannot write {target}: {error.strerror or error}; "
            "free some space or choose another folder, what was there before is unchanged"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file atomically (UTF-8) and return its path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write JSON atomically; numbers that are not finite become null, so any reader accepts it."""
    return write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        VitreousError: If it is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VitreousError(f"no file at {path}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VitreousError(f"{path} is not valid JSON: {error}") from error


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; a last line that a kill cut short is left out.

    Returns:
        The objects; none where there is no file.

    Raises:
        VitreousError: If another line is not a JSON object.
    """
    file = Path(path)
    if not file.is_file():
        return []
    rows = []
    lines = file.read_bytes().splitlines(keepends=True)
    for place, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if place == len(lines) and not line.endswith(b"\n"):
                break
            raise VitreousError(f"{file}, line {place} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise VitreousError(f"{file}, line {place}: expected an object, found {line[:40]!r}")
        rows.append(row)
    return rows


def finite(value: Any) -> Any:
    """Replace floats that JSON cannot hold (NaN, infinities) by None, at any depth."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
