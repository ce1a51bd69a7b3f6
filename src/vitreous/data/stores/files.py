"""Images and masks in files, a million names in tens of megabytes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from vitreous.data.images import open_image
from vitreous.data.mask_files import MaskFormat, read_mask
from vitreous.errors import ImageError


class Names:
    """Many file names, held as one run of bytes that worker processes share.

    Args:
        names: Paths with `/` between their parts, as the file system has them.
    """

    def __init__(self, names: Iterable[str]):
        encoded = [os.fsencode(name) for name in names]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def path(self, index: int) -> str:
        """The name as the file system takes it; bytes that are not UTF-8 are kept in it."""
        return os.fsdecode(self._raw(index))

    def text(self, index: int) -> str:
        r"""The name as text for any file: a byte that is not UTF-8 becomes `\xff`."""
        return self._raw(index).decode(errors="backslashreplace")

    def _raw(self, index: int) -> bytes:
        return self._bytes[self._ends[index] : self._ends[index + 1]]


class FileImages:
    """Image files below one folder.

    Args:
        root: The folder.
        names: Paths relative to it, or absolute ones.
    """

    def __init__(self, root: str | os.PathLike[str], names: Iterable[str]):
        self.root, self._names = Path(root), Names(names)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Path as it was given."""
        return self._names.text(index)

    def path(self, index: int) -> Path:
        """The file."""
        return self.root / self._names.path(index)

    def open(self, index: int) -> Image.Image:
        """Read an image as RGB, upright; raises `ImageError`."""
        return open_image(self.path(index))

    def stamp(self, index: int) -> tuple[int, ...]:
        """Size in bytes and time of change in nanoseconds; empty where there is no file."""
        return file_stamp(self.path(index))

    def content(self, index: int) -> bytes:
        """The file's bytes; raises `ImageError`."""
        return file_content(self.path(index))


class FileMasks:
    """Mask files below one folder.

    Args:
        root: The folder.
        names: For each image its mask, relative to the folder or absolute; empty where it has none.
        mask_format: How they are read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        names: Iterable[str],
        mask_format: MaskFormat = "binary",
    ):
        self.root, self.mask_format, self._names = Path(root), mask_format, Names(names)

    def has(self, index: int) -> bool:
        """Whether an image has a mask."""
        return self._names.path(index) != ""

    def path(self, index: int) -> Path:
        """The file, for an image that has one."""
        return self.root / self._names.path(index)

    def open(self, index: int) -> Tensor | None:
        """Read a mask (1, H, W) of 0 and 1; None where there is none; raises `ImageError`."""
        return read_mask(self.path(index), self.mask_format) if self.has(index) else None

    def stamp(self, index: int) -> tuple[int, ...]:
        """Size in bytes and time of change in nanoseconds; empty where there is no file."""
        return file_stamp(self.path(index)) if self.has(index) else ()

    def content(self, index: int) -> bytes:
        """The file's bytes; empty where there is no mask; raises `ImageError`."""
        return file_content(self.path(index)) if self.has(index) else b""


def file_stamp(path: Path) -> tuple[int, ...]:
    """Size in bytes and time of change in nanoseconds of a file; empty where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ()
    return status.st_size, status.st_mtime_ns


def file_content(path: Path) -> bytes:
    """Read a file.

    Raises:
        ImageError: If it cannot be read; names it.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path} cannot be read: {reason}") from error
