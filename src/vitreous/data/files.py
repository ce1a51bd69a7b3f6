"""Where the pictures of a set are: files, or members of tar shards; compact and random access."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from vitreous.data.images import EXTENSIONS, decode_image, open_image
from vitreous.errors import ImageError, VitreousError


class Images(Protocol):
    """A numbered list of pictures; `open` may be called in any order and from any process."""

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def name(self, index: int) -> str:
        """Name of a picture, as results show it."""
        ...

    def open(self, index: int) -> Image.Image:
        """Read a picture as RGB; raises `ImageError`."""
        ...


class Files:
    """Picture files below one folder.

    Args:
        root: The folder.
        names: Paths relative to it. They are held as one array of bytes: a million paths take
            tens of megabytes, and worker processes share them.
    """

    def __init__(self, root: Path, names: Sequence[str]):
        self.root = root
        self._names = np.array([os.fsencode(n) for n in names], dtype=bytes)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._names)

    def name(self, index: int) -> str:
        """Path relative to the folder."""
        return os.fsdecode(bytes(self._names[index]))

    def open(self, index: int) -> Image.Image:
        """Read a picture as RGB; raises `ImageError`."""
        return open_image(self.root / self.name(index))


class TarMembers:
    """Pictures inside tar shards, read by their offset.

    Args:
        shards: The tar files.
        names: `SHARD/MEMBER` of each picture.
        shard: For each picture, which shard it lies in.
        offsets: For each picture, where its bytes begin in the shard.
        sizes: For each picture, how many bytes it has.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        names: Sequence[str],
        shard: Sequence[int],
        offsets: Sequence[int],
        sizes: Sequence[int],
    ):
        self.shards = list(shards)
        self._names = np.array([os.fsencode(n) for n in names], dtype=bytes)
        self._where = np.array([shard, offsets, sizes], dtype=np.int64).reshape(3, -1)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._names)

    def name(self, index: int) -> str:
        """Shard and member."""
        return os.fsdecode(bytes(self._names[index]))

    def open(self, index: int) -> Image.Image:
        """Read a picture as RGB; raises `ImageError`."""
        shard, offset, size = (int(v) for v in self._where[:, index])
        if size == 0:
            raise ImageError(f"{self.name(index)} is empty (0 bytes)")
        try:
            with self.shards[shard].open("rb") as opened:
                opened.seek(offset)
                content = io.BytesIO(opened.read(size))
        except OSError as error:
            raise ImageError(f"{self.name(index)} cannot be read: {error.strerror}") from error
        return decode_image(content, self.name(index))


def tar_shards(path: Path) -> list[Path]:
    """List the shards that a path means: one tar file, or all of a folder, sorted by name."""
    return [path] if path.suffix == ".tar" else sorted(path.glob("*.tar"))


def read_tar(shards: Sequence[Path]) -> tuple[TarMembers, list[dict[str, bytes]]]:
    """Index tar shards in the layout of webdataset.

    Members that share a name up to the first dot of their last part are one sample: a picture
    (`.jpg`, `.png`, …) and what belongs to it (`.cls`, `.txt`, `.json`).

    Returns:
        The pictures, and for each the small members beside it, by extension.

    Raises:
        VitreousError: If a shard is not a tar file or is cut short.
    """
    names, where, beside = [], [], []
    for number, shard in enumerate(shards):
        for key, sample in _samples(shard).items():
            image = next((e for e in sample if f".{e.rsplit('.', 1)[-1]}" in EXTENSIONS), None)
            if image is None:
                continue
            member = sample.pop(image)
            names.append(f"{shard.name}/{key}.{image}")
            where.append((number, member.offset_data, member.size))
            beside.append({e: _content(shard, m) for e, m in sample.items()})
    shard_of, offsets, sizes = zip(*where) if where else ((), (), ())
    return TarMembers(shards, names, shard_of, offsets, sizes), beside


def _samples(shard: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                folder, _, last = member.name.rpartition("/")
                if member.isfile() and not last.startswith("."):
                    stem, _, extension = last.partition(".")
                    key = f"{folder}/{stem}" if folder else stem
                    samples.setdefault(key, {})[extension.lower()] = member
    except (tarfile.TarError, OSError) as error:
        raise VitreousError(f"{shard} is not an intact tar file: {error}") from error
    return samples


def _content(shard: Path, member: tarfile.TarInfo) -> bytes:
    with shard.open("rb") as opened:
        opened.seek(member.offset_data)
        return opened.read(member.size)
