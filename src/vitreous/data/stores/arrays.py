"""Images and masks in memory: drawn ones, and those of tests."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor


class ArrayImages:
    """Images in one tensor of bytes.

    Args:
        pixels: (N, H, W, 3) uint8.
        names: What each is called.
    """

    def __init__(self, pixels: Tensor, names: Sequence[str]):
        if pixels.ndim != 4 or pixels.dtype != torch.uint8 or len(pixels) != len(names):
            raise ValueError(
                f"expected bytes (N, H, W, 3) and N names, found {tuple(pixels.shape)} of "
                f"{pixels.dtype} and {len(names)} names"
            )
        self.pixels, self._names = pixels, names

    def __len__(self) -> int:
        return len(self.pixels)

    def name(self, index: int) -> str:
        """The name that was given."""
        return self._names[index]

    def open(self, index: int) -> Image.Image:
        """One image as RGB."""
        return Image.fromarray(self.pixels[index].numpy())

    def stamp(self, index: int) -> tuple[int, ...]:
        """Number of bytes and a checksum of them."""
        return array_stamp(self.content(index))

    def content(self, index: int) -> bytes:
        """The pixels."""
        return self.pixels[index].numpy().tobytes()


class ArrayMasks:
    """Masks in one tensor.

    Args:
        masks: (N, 1, H, W) in [0, 1]; a row of zeros is an image without a mask.
    """

    def __init__(self, masks: Tensor):
        self.masks = masks

    def has(self, index: int) -> bool:
        """Whether an image has a mask."""
        return bool(self.masks[index].any())

    def open(self, index: int) -> Tensor | None:
        """One mask (1, H, W); None where there is none."""
        return self.masks[index] if self.has(index) else None

    def stamp(self, index: int) -> tuple[int, ...]:
        """Number of bytes and a checksum of them; empty where there is no mask."""
        return array_stamp(self.content(index)) if self.has(index) else ()

    def content(self, index: int) -> bytes:
        """The pixels; empty where there is no mask."""
        return self.masks[index].numpy().tobytes() if self.has(index) else b""


def array_stamp(content: bytes) -> tuple[int, ...]:
    """Number of bytes and a checksum of them: memory has no time of change."""
    return len(content), zlib.crc32(content)
