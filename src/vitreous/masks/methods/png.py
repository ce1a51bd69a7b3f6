"""Mask images: black and white, class indices (palette or grey), ImageNet-S."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from vitreous.data.images import image_errors
from vitreous.data.mask_files import MaskFormat, read_mask
from vitreous.masks.base import (
    MASK_METHODS,
    Found,
    MaskError,
    MaskItem,
    check_size,
    file_items,
    find_each,
)
from vitreous.ranges import INDEX

SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class _Files:
    """Mask files `MASKS/a/b.png` for the images `a/b.jpg`.

    Attributes:
        masks: Folder of the mask files.
    """

    masks: Path

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image, or for each mask file where there is no folder of images."""
        return file_items(self.masks, images, SUFFIXES, "mask pictures")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Read them."""
        return find_each(items, self._one)

    def _one(self, item: MaskItem) -> Found:
        mask = self.read(item.source)
        check_size(mask, item)
        return Found(mask)

    def read(self, path: Path) -> np.ndarray:
        """Read one file as (H, W) bool."""
        return _by_format(path, "binary")


@MASK_METHODS.register("png")
@dataclasses.dataclass(frozen=True)
class BinaryFiles(_Files):
    """Black and white masks; foreground is brighter than half."""


@MASK_METHODS.register("imagenet_s")
@dataclasses.dataclass(frozen=True)
class ImageNetS(_Files):
    """ImageNet-S: class = R + 256·G; 0 is background, 1000 is ignored and so background."""

    def read(self, path: Path) -> np.ndarray:
        """Read one file as (H, W) bool."""
        return _by_format(path, "imagenet_s")


@MASK_METHODS.register("palette")
@dataclasses.dataclass(frozen=True)
class Palette(_Files):
    """Class indices, as palette or grey values (Pascal VOC, Cityscapes).

    Attributes:
        classes: Indices that are foreground; all but 0 where not given.
        ignore: Index that is never foreground (255 in Pascal VOC: unlabelled borders).
    """

    classes: Annotated[tuple[int, ...], INDEX] | None = None
    ignore: Annotated[int, INDEX] = 255

    def read(self, path: Path) -> np.ndarray:
        """Read one file as (H, W) bool."""
        if not path.is_file():
            raise MaskError(f"no mask at {path}")
        with image_errors(path, MaskError), Image.open(path) as opened:
            opened.load()
            indices = np.asarray(opened)
        if indices.ndim != 2:
            raise MaskError(
                f"{path}: expected class indices in one channel, found a colour picture"
            )
        wanted = indices != 0 if self.classes is None else np.isin(indices, self.classes)
        return wanted & (indices != self.ignore)


def _by_format(path: Path, kind: MaskFormat) -> np.ndarray:
    return read_mask(path, kind)[0].numpy().astype(bool)
