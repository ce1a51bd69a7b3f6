"""Text files of others: read in one place, with the reason where it is no text of UTF-8."""

from __future__ import annotations

import codecs
from pathlib import Path

from vitreous.errors import VitreousError


def read_text(path: Path) -> str:
    """Read a text file: UTF-8, with a byte order mark or without.

    Raises:
        VitreousError: If it is missing, cannot be read or is something else; says what and where.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise VitreousError(f"no file at {path}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VitreousError(f"{path} cannot be read: {reason}") from error
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or (content[1:2] == b"\0" and content[:1] != b"\0"):
        raise VitreousError(f"{path} is UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise VitreousError(
            f"{path} is not UTF-8 (byte {content[error.start]:#x} in line {line}; Latin-1?); save "
            "it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise VitreousError(f"{path} has a NUL in line {line}; expected text")
    return text
