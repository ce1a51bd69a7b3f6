"""Files written whole or not at all, and JSON that every part of Vitreous reads the same way."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import json
import math
import os
import stat
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from vitreous.disk import temporary_path, writing
from vitreous.errors import VitreousError, printable, shorten

LONGEST = 1024
NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, durable: bool = True) -> Generator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block succeeds.

    A process killed inside the block, or a full disk, leaves the old file (or none) in place.

    Args:
        path: The file to write; folders above it are made.
        durable: Wait until it is on the disk, so that it outlives a power cut too.

    Raises:
        VitreousError: If it cannot be written: disk full, folder read-only, name too long, a
            folder in its place. The line says which, and what to do.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_path(target)
            yield temporary
            if durable:
                with temporary.open("r+b") as written:  # Windows syncs no handle for reading
                    os.fsync(written.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str, *, durable: bool = True) -> Path:
    """Write a text file atomically (UTF-8) and return its path."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def append_text(path: str | os.PathLike[str], text: str) -> None:
    """Append text (UTF-8) to a file; if it does not fit, the file is as it was before.

    Raises:
        VitreousError: If it cannot be written.
    """
    file = Path(path)
    with writing(file), file.open("ab", buffering=0) as opened:
        before, rest = opened.tell(), memoryview(text.encode())
        try:
            while rest:
                rest = rest[opened.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                opened.truncate(before)
            raise


def write_json(path: str | os.PathLike[str], value: object, *, durable: bool = True) -> Path:
    """Write JSON atomically; numbers that are not finite become null, so any reader accepts it."""
    return write_text(path, json_text(finite(value), indent=1) + "\n", durable=durable)


def json_text(value: object, indent: int | None = None) -> str:
    """JSON that can be written as UTF-8; a file name that cannot is spelt in escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    return text


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        VitreousError: If it is missing, is not JSON, or says something twice.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_once)
    except FileNotFoundError as error:
        raise VitreousError(f"no file at {path}") from error
    except OSError as error:
        raise VitreousError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise VitreousError(f"{path} is not valid JSON: {error}") from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; raises ValueError where a key is there twice, of which one would win."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise ValueError(f"the key '{shorten(twice)}' is there twice")
    return table


def inside(folder: str | os.PathLike[str], relative: str, listed_in: object = "") -> Path:
    """The path of a file that a listing names, which must lie in the listing's own folder.

    Listings (manifests, samples.json, results) may come from others. A name that leads out of
    the folder, by `..`, by an absolute path or by a link, is refused.

    Args:
        folder: The folder that all files must lie in.
        relative: The name as listed, relative to `folder`.
        listed_in: The listing, for the message; the folder where not given.

    Raises:
        VitreousError: If the name leads out of the folder, or is none.
    """
    where = f"{listed_in or folder} names the file {str(relative)[:80]!r}"
    if not isinstance(relative, str) or "\0" in relative or not 0 < len(relative) <= LONGEST:
        raise VitreousError(f"{where}, which is no path; the listing is refused")
    path = Path(folder) / relative
    try:
        within = path.resolve().is_relative_to(Path(folder).resolve())
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, RuntimeError, ValueError) as error:  # endless links, names too long
        raise VitreousError(f"{where}, which cannot be followed: {error}") from error
    if not within or Path(relative).is_absolute() or path.resolve() == Path(folder).resolve():
        raise VitreousError(f"{where}, which does not lie in {folder}; the listing is refused")
    return path


def check_path(path: str | os.PathLike[str], where: str) -> None:
    """Refuse what a user gives for a path and the system takes for none, before it is used.

    What is not there yet is fine. Refused are: a NUL, a name too long, links that lead to
    themselves, a folder that may not be entered, the home of nobody, devices and pipes, which
    may never end, and a way back (`..`) out of a folder that is not there: once it is made, the
    path leads to what could not be seen when it was checked.

    Args:
        path: What was given.
        where: Option or key that gave it, for the message.

    Raises:
        VitreousError: Says what is wrong with it.
    """
    text = os.fspath(path)
    shown = shorten(printable(text)) if "\0" not in text else ""
    if not shown and text:
        raise VitreousError(f"{where}: expected a path, found a NUL character in it")
    if text.startswith("~") and os.path.expanduser(text) == text:
        raise VitreousError(f"{where}: nobody has the home of {shown}; give the whole path")
    try:
        kind = stat.S_IFMT(os.stat(os.path.expanduser(text)).st_mode)
    except OSError as error:
        if error.errno in NOT_THERE:
            _check_ways_back(Path(os.path.expanduser(text)), where, shown)
            return
        raise VitreousError(f"{where}: {shown} cannot be a path: {error.strerror}") from error
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise VitreousError(f"{where}: {shown} is a device or a pipe, expected a file or a folder")


def _check_ways_back(path: Path, where: str, shown: str) -> None:
    for place, part in enumerate(path.parts):
        if part == ".." and not Path(*path.parts[:place]).is_dir():
            left = printable(str(Path(*path.parts[:place])))
            raise VitreousError(
                f"{where}: {shown} goes back out of {shorten(left)}, which is not there; give it "
                "without that way"
            )


def file_stamp(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """What changes when a file does: size in bytes, time of change in ns; empty where none is."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return ()
    return (about.st_size, about.st_mtime_ns)


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, object]]:
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


def _names_of_any_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write names as `surrogateescape` does, and what is no name of a file either in escapes."""
    assert isinstance(error, UnicodeEncodeError)  # it is for writing alone
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error("vitreous.names", _names_of_any_bytes)


def write_csv(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Iterable[object]]
) -> Path:
    """Write a table atomically and return its path (UTF-8, empty where there is no value)."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="vitreous.names") as opened,
    ):
        writer = csv.writer(opened)
        writer.writerow(header)
        writer.writerows(rows)
    return Path(path)


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
