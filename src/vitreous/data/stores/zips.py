"""Images inside a zip."""

from __future__ import annotations

import functools
import io
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from vitreous.data.images import decode_image
from vitreous.data.stores.files import Names
from vitreous.errors import ImageError


class ZipImages:
    """Images inside a zip; each process that reads them opens it once.

    Args:
        archive: The zip.
        members: Names of the images in it.
    """

    def __init__(self, archive: str | os.PathLike[str], members: Iterable[str]):
        self.archive, self._names = Path(archive), Names(members)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Name in the zip."""
        return self._names.text(index)

    def open(self, index: int) -> Image.Image:
        """Read an image as RGB, upright; raises `ImageError`."""
        name = f"{self.archive}:{self.name(index)}"
        return decode_image(io.BytesIO(self.content(index)), name)

    def stamp(self, index: int) -> tuple[int, ...]:
        """Size in bytes and the zip's own checksum of the content."""
        member = self._member(index)
        return member.file_size, member.CRC

    def content(self, index: int) -> bytes:
        """The member's bytes; raises `ImageError`."""
        member = self._member(index)
        try:
            return open_zip(self.archive).read(member)
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
            raise ImageError(f"{self.archive}:{self.name(index)} is corrupt: {error}") from error

    def _member(self, index: int) -> zipfile.ZipInfo:
        try:
            return open_zip(self.archive).getinfo(self._names.path(index))
        except KeyError as error:
            raise ImageError(f"{self.archive} holds no {self.name(index)}") from error


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip; again only where the file has changed, or in another process.

    Raises:
        ImageError: If it is missing or not a zip.
    """
    try:
        status = path.stat()
        return _opened(path, status.st_mtime_ns, os.getpid())
    except OSError as error:
        raise ImageError(f"no zip at {path}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:  # names, versions
        raise ImageError(f"{path} is not a zip, or it is cut short") from error


@functools.lru_cache(maxsize=4)
def _opened(path: Path, changed: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
