"""Boxes as masks: a JSON or CSV table, COCO's JSON, or Pascal VOC's XML files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from vitreous.masks.base import MASK_METHODS, Found, MaskError, MaskItem, find_each, image_size
from vitreous.masks.polygons import boxes_mask
from vitreous.masks.prompts import BoxFile


@MASK_METHODS.register("boxes")
@dataclasses.dataclass(frozen=True)
class Boxes:
    """Foreground = the inside of boxes, a rough mask.

    Attributes:
        boxes: A JSON file `{"a/b.jpg": [xmin, ymin, xmax, ymax]}` (or a list of such boxes) or a
            CSV file (path, xmin, ymin, xmax, ymax), the last row and column included; COCO's
            JSON; or a folder of Pascal VOC's XML files.
        names: Names of the objects that count, for XML and COCO; all where not given.
    """

    boxes: Path
    names: tuple[str, ...] | None = None

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image; XML files state sizes and need no images."""
        return self._file.items(images, "boxes")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Fill their boxes."""
        return find_each(items, self._one)

    def _one(self, item: MaskItem) -> Found:
        size = image_size(item)
        stated, boxes = self._file.boxes(item)
        if size is not None and stated is not None and size != stated:
            raise MaskError(
                f"{item.source} is for a picture of {stated[0]}×{stated[1]} pixels, "
                f"{item.image} is {size[0]}×{size[1]}"
            )
        size = size or stated
        if size is None:
            raise MaskError(f"{item.source} states no size, and there is no picture")
        return Found(*boxes_mask(boxes, size))

    @functools.cached_property
    def _file(self) -> BoxFile:
        return BoxFile(self.boxes, self.names)
