"""Images and masks inside tar shards, read at their offset."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from vitreous.data.images import decode_image
from vitreous.data.mask_files import MaskFormat, decode_mask
from vitreous.data.stores.files import Names
from vitreous.errors import ImageError


@dataclasses.dataclass(frozen=True, eq=False)
class Members:
    """Some members of tar shards.

    Attributes:
        shards: The tar files.
        names: `SHARD/MEMBER` of each; empty where there is none.
        where: (N, 3) int64: which shard, at which byte the content begins, how many bytes it has.
    """

    shards: Sequence[Path]
    names: Names
    where: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def content(self, index: int) -> bytes:
        """Read one member.

        Raises:
            ImageError: If the shard cannot be read or has become shorter.
        """
        shard, offset, size = self.where[index].tolist()
        name = self.names.text(index)
        try:
            with self.shards[shard].open("rb") as opened:
                opened.seek(offset)
                content = opened.read(size)
        except OSError as error:
            raise ImageError(f"{name} cannot be read: {error.strerror}") from error
        if len(content) < size:
            raise ImageError(f"{name} is cut short: its shard has become shorter")
        return content

    def stamp(self, index: int) -> tuple[int, ...]:
        """Offset and size in bytes, and the shard's time of change in nanoseconds."""
        shard, offset, size = self.where[index].tolist()
        try:
            return offset, size, self.shards[shard].stat().st_mtime_ns
        except OSError:
            return ()


@dataclasses.dataclass(frozen=True, eq=False)
class ShardImages:
    """Images inside tar shards.

    Attributes:
        members: Where they are.
    """

    members: Members

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        """Shard and member."""
        return self.members.names.text(index)

    def open(self, index: int) -> Image.Image:
        """Read an image as RGB, upright; raises `ImageError`."""
        content = self.members.content(index)
        if not content:
            raise ImageError(f"{self.name(index)} is empty (0 bytes)")
        return decode_image(io.BytesIO(content), self.name(index))

    def stamp(self, index: int) -> tuple[int, ...]:
        """Offset and size in bytes, and the shard's time of change in nanoseconds."""
        return self.members.stamp(index)

    def content(self, index: int) -> bytes:
        """The member's bytes; raises `ImageError`."""
        return self.members.content(index)


@dataclasses.dataclass(frozen=True, eq=False)
class ShardMasks:
    """Masks inside tar shards, beside their images.

    Attributes:
        members: Where they are; a name is empty where an image has no mask.
        mask_format: How they are read.
    """

    members: Members
    mask_format: MaskFormat = "binary"

    def has(self, index: int) -> bool:
        """Whether an image has a mask."""
        return self.members.names.path(index) != ""

    def open(self, index: int) -> Tensor | None:
        """Read a mask (1, H, W) of 0 and 1; None where there is none; raises `ImageError`."""
        if not self.has(index):
            return None
        content = io.BytesIO(self.members.content(index))
        return decode_mask(content, self.members.names.text(index), self.mask_format)

    def stamp(self, index: int) -> tuple[int, ...]:
        """Offset, size and the shard's time of change; empty where there is no mask."""
        return self.members.stamp(index) if self.has(index) else ()

    def content(self, index: int) -> bytes:
        """The member's bytes; empty where there is no mask; raises `ImageError`."""
        return self.members.content(index) if self.has(index) else b""
