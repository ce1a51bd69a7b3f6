"""Masks that were decoded once and are kept, a bit a pixel, for the epochs to come."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import torch
from torch import Tensor

from vitreous.data.dataset import Dataset, MaskStore
from vitreous.errors import ImageError

LIMIT = 2**26  # bytes in a process that reads: 2,800 masks of 500×375 pixels


def with_cached_masks(dataset: Dataset) -> Dataset:
    """The same dataset, whose masks are decoded once where they are read again and again."""
    masks = dataset.masks
    return dataset if masks is None else dataclasses.replace(dataset, masks=CachedMasks(masks))


@dataclasses.dataclass(frozen=True)
class _Kept:
    stamp: tuple[int, ...]
    shape: tuple[int, ...]
    bits: np.ndarray


class CachedMasks:
    """Another store's masks, each decoded once while it stays as it is.

    A mask file is checked, decoded and compared with a half of its range each time it is read; what
    remains is a bit a pixel. A mask of other values than 0 and 1 is not kept, nor is any more when
    the limit is reached.

    Args:
        masks: The store.
        limit: Bytes that all kept masks may take.
    """

    def __init__(self, masks: MaskStore, limit: int = LIMIT):
        self.masks, self.limit = masks, limit
        self._kept: dict[int, _Kept] = {}
        self._size = 0
        self._filled = False

    def __getstate__(self) -> dict[str, object]:
        """Without what is kept: a process that is sent the store reads for itself."""
        return {**vars(self), "_kept": {}, "_size": 0, "_filled": False}

    def has(self, index: int) -> bool:
        """Whether an image has a mask."""
        return self.masks.has(index)

    def open(self, index: int) -> Tensor | None:
        """Read a mask (1, H, W), anew where it has changed; raises `ImageError`."""
        stamp, kept = self.masks.stamp(index), self._kept.get(index)
        if kept is not None and kept.stamp == stamp:
            pixels = np.unpackbits(kept.bits, count=int(np.prod(kept.shape)))
            return torch.from_numpy(pixels.reshape(kept.shape)).float()
        mask = self.masks.open(index)
        if mask is not None and mask.dtype == torch.float32:
            self._keep(index, stamp, mask.numpy())
        return mask

    def stamp(self, index: int) -> tuple[int, ...]:
        """The stamp of the stored mask."""
        return self.masks.stamp(index)

    def content(self, index: int) -> bytes:
        """The stored bytes."""
        return self.masks.content(index)

    def fill(self, count: int) -> None:
        """Decode the first `count` masks ahead, once, up to the first that is not kept.

        Processes that are forked then have them. What cannot be read is told where it is needed.
        """
        if self._filled:
            return
        self._filled = True
        for index in filter(self.has, range(count)):
            with contextlib.suppress(ImageError):
                self.open(index)
                if index not in self._kept:
                    break

    def _keep(self, index: int, stamp: tuple[int, ...], mask: np.ndarray) -> None:
        if not ((mask == 0) | (mask == 1)).all():
            return
        bits = np.packbits(mask.astype(bool))
        before = self._kept.get(index)
        size = self._size + bits.nbytes - (0 if before is None else before.bits.nbytes)
        if size <= self.limit:
            self._kept[index], self._size = _Kept(stamp, mask.shape, bits), size
