"""YOLO's text files: a polygon or a box a line, in shares of the image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from vitreous.errors import VitreousError
from vitreous.masks.base import (
    MASK_METHODS,
    Found,
    MaskError,
    MaskItem,
    file_items,
    find_each,
    image_size,
)
from vitreous.masks.polygons import fill
from vitreous.ranges import INDEX, SHARE


@MASK_METHODS.register("yolo")
@dataclasses.dataclass(frozen=True)
class Yolo:
    """Foreground = the union of a label file's objects.

    A line is `class x1 y1 x2 y2 …` (polygon) or `class x y width height` (box).

    Attributes:
        labels: Folder of the text files.
        classes: Class numbers that count; all where not given.
        minimum_area: Objects that cover less of the image than this share are left out.
    """

    labels: Path
    classes: Annotated[tuple[int, ...], INDEX] | None = None
    minimum_area: Annotated[float, SHARE] = 0.0

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image; they are needed for their sizes."""
        if images is None:
            raise VitreousError("YOLO's files hold no sizes; give the folder of the pictures too")
        return file_items(self.labels, images, (".txt",), "label files")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Draw their objects."""
        return find_each(items, self._one)

    def _one(self, item: MaskItem) -> Found:
        size = image_size(item)
        if size is None:
            raise MaskError(f"{item.source} has no picture")
        try:
            lines = item.source.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise MaskError(
                f"no labels for {item.image}: {item.source} cannot be read ({error})"
            ) from error
        mask, notes = np.zeros(size[::-1], bool), []
        for number, line in enumerate(lines, 1):
            try:
                shape = self.points(line, size)
            except (ValueError, OverflowError) as error:
                raise MaskError(f"{item.source}, line {number}: {error}") from error
            part, note = fill([shape], size) if shape else (np.zeros_like(mask), "")
            if part.mean() >= self.minimum_area:
                mask |= part
            if note:
                notes.append(note)
        return Found(mask, "; ".join(dict.fromkeys(notes)))

    def points(self, line: str, size: tuple[int, int]) -> list[float]:
        """The polygon of one line in pixels, x1, y1, x2, …; empty where it does not count.

        Args:
            line: A line of a label file.
            size: Width and height of the image.

        Raises:
            ValueError: If it is no such line.
        """
        fields = line.split()
        if not fields:
            return []
        kind, *numbers = (float(field) for field in fields)
        if self.classes is not None and int(kind) not in self.classes:
            return []
        if len(numbers) == 4:
            x, y, width, height = numbers
            left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
            numbers = [left, top, right, top, right, bottom, left, bottom]
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(
                f"expected 4 numbers or 3 and more points, found {len(numbers)} numbers"
            )
        return [value * size[i % 2] for i, value in enumerate(numbers)]
