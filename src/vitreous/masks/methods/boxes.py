"""Boxes as masks: a JSON table (Tiny-ImageNet), or Pascal VOC's XML files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vitreous.errors import VitreousError
from vitreous.io import read_json
from vitreous.masks.base import (
    MASK_METHODS,
    Found,
    Item,
    MaskError,
    below,
    file_items,
    image_items,
    image_size,
    without_image,
)
from vitreous.masks.polygons import boxes_mask

Box = tuple[float, float, float, float]


@MASK_METHODS.register("boxes")
@dataclasses.dataclass(frozen=True)
class Boxes:
    """Foreground = the inside of boxes, a rough mask.

    Attributes:
        boxes: A JSON file `{"a/b.jpg": [xmin, ymin, xmax, ymax]}` (or a list of such boxes), the
            last row and column included; or a folder of Pascal VOC's XML files.
        names: Names of the objects that count, for XML; all where not given.
    """

    boxes: Path
    names: tuple[str, ...] | None = None

    def items(self, images: Path | None) -> list[Item]:
        """One for each picture; XML files state sizes and need no pictures."""
        if self.boxes.is_dir() or not self.boxes.exists():
            return file_items(self.boxes, images, (".xml",), "XML files")
        if images is None:
            raise VitreousError(f"{self.boxes} holds no sizes; give the folder of the pictures too")
        items = [
            dataclasses.replace(item, source=self.boxes, key=self._key(item.source))
            for item in image_items(images, "boxes")
        ]
        used = {item.key for item in items}
        lost = {below(key): self.boxes for key in self._table if key not in used}
        return items + without_image(lost, items, images)

    def find(self, items: Sequence[Item]) -> list[Found | MaskError]:
        """Fill their boxes."""
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Found | MaskError:
        try:
            size, boxes = image_size(item), []
            if item.source.suffix == ".xml":
                stated, boxes = self._xml(item.source)
                if size is not None and stated is not None and size != stated:
                    return MaskError(
                        f"{item.source} is for a picture of {stated[0]}×{stated[1]} pixels, "
                        f"{item.image} is {size[0]}×{size[1]}"
                    )
                size = size or stated
            elif item.key not in self._table:
                return MaskError(f"{self.boxes} has no box for {item.image}")
            else:
                boxes = self._json(item.key)
        except MaskError as error:
            return error
        if size is None:
            return MaskError(f"{item.source} states no size, and there is no picture")
        return Found(*boxes_mask(boxes, size))

    def _json(self, key: str) -> list[Box]:
        rows: Any = self._table[key]
        rows = rows if rows and isinstance(rows[0], list) else [rows]
        try:
            return [(float(x0), float(y0), float(x1) + 1, float(y1) + 1) for x0, y0, x1, y1 in rows]
        except (TypeError, ValueError) as error:
            raise MaskError(f"{self.boxes}: {key}: expected xmin, ymin, xmax, ymax") from error

    def _xml(self, path: Path) -> tuple[tuple[int, int] | None, list[Box]]:
        try:
            root = ElementTree.parse(path).getroot()
            width, height = (int(root.findtext(f"size/{k}") or 0) for k in ("width", "height"))
            corners = ("xmin", "ymin", "xmax", "ymax")
            found = [
                [float(entry.findtext(f"bndbox/{c}") or "") for c in corners]
                for entry in root.iter("object")
                if self.names is None or entry.findtext("name") in self.names
            ]
        except OSError as error:
            raise MaskError(f"no XML file at {path}") from error
        except (ElementTree.ParseError, ValueError) as error:
            raise MaskError(f"{path} is not a Pascal VOC file: {error}") from error
        # Pascal VOC counts pixels from 1 and includes the last.
        boxes = [(x0 - 1, y0 - 1, x1, y1) for x0, y0, x1, y1 in found]
        return (width, height) if width and height else None, boxes

    @functools.cached_property
    def _table(self) -> dict[str, Any]:
        table = read_json(self.boxes)
        if not isinstance(table, dict):
            raise VitreousError(f"{self.boxes}: expected picture names with boxes")
        return table

    def _key(self, image: Path) -> str:
        """The longest end of the picture's path that the file lists."""
        parts = image.parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((end for end in ends if end in self._table), "")
