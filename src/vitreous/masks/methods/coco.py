"""COCO's JSON: polygons and run-length encoded masks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from vitreous.errors import VitreousError, nearest, shorten
from vitreous.io import read_json
from vitreous.masks.base import (
    MASK_METHODS,
    Found,
    MaskError,
    MaskItem,
    below,
    check_size,
    distinct,
    find_each,
    listed_items,
    require_size,
)
from vitreous.masks.coco_file import (
    Annotation,
    CocoFile,
    ImageEntry,
    RunLengths,
    checked_shape,
    doubtful_entries,
    whole_number,
)
from vitreous.masks.lengths import decode_lengths
from vitreous.masks.polygons import fill
from vitreous.ranges import SHARE


@MASK_METHODS.register("coco")
@dataclasses.dataclass(frozen=True)
class Coco:
    """Foreground = the union of the objects of a COCO file.

    Attributes:
        annotations: The JSON file.
        categories: Names of the categories that count; all where not given.
        minimum_area: Objects that cover less of the image than this share are left out.
        crowds: Whether groups marked `iscrowd` count.
    """

    annotations: Path
    categories: tuple[str, ...] | None = None
    minimum_area: Annotated[float, SHARE] = 0.0
    crowds: bool = True

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image of the file, or of the folder where there is one.

        Listed images that the folder lacks, and objects of images that the file does not list,
        come last, each with a problem. Which entry is of which image, `vitreous.data.matching`
        says.
        """
        table = self._images
        stray = [
            MaskItem(
                f"unlisted/{number}",
                None,
                self.annotations,
                problem=f"{self.annotations} has objects of a picture {number} it does not list",
            )
            for number in sorted(self._objects.keys() - _numbers(table.values()), key=str)
        ]
        if images is None:
            items = [MaskItem(below(name), None, self.annotations, name) for name in sorted(table)]
            return distinct(items) + stray
        return listed_items(images, self.annotations, list(table), "coco") + stray

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Draw their objects."""
        return find_each(items, self._one)

    def _one(self, item: MaskItem) -> Found:
        if item.key not in self._images:
            raise MaskError(f"{self.annotations} does not list {item.image}")
        if item.key in self._doubtful:
            raise MaskError(f"{self.annotations}: {self._doubtful[item.key]}")
        entry, where = self._images[item.key], f"{self.annotations}: {item.key}"
        size = whole_number(entry, "width", where), whole_number(entry, "height", where)
        require_size(size[0] * size[1], where)
        check_size(np.broadcast_to(False, size[::-1]), item)
        number = entry.get("id")
        if not isinstance(number, int | float | str):
            raise MaskError(f"{where}: its id is {shorten(number)}, expected a number or a text")
        return self._union(self._objects.get(number, []), size, where)

    def _union(self, objects: Sequence[Annotation], size: tuple[int, int], where: str) -> Found:
        mask, notes = np.zeros(size[::-1], bool), []
        for annotation in objects:
            part, note = _draw(checked_shape(annotation, where), size, where)
            if part.mean() >= self.minimum_area:
                mask |= part
            if note:
                notes.append(note)
        return Found(mask, "; ".join(dict.fromkeys(notes)))

    @functools.cached_property
    def _file(self) -> CocoFile:
        content = read_json(self.annotations)
        lists = ("images", "annotations")
        if not isinstance(content, dict) or not all(
            isinstance(content.get(k), list) for k in lists
        ):
            raise VitreousError(
                f"{self.annotations} is not a COCO file: expected lists 'images' and 'annotations'"
            )
        return content

    @functools.cached_property
    def _images(self) -> dict[str, ImageEntry]:
        entries = self._file["images"]
        for entry in entries:
            if not isinstance(entry, dict) or "file_name" not in entry:
                raise VitreousError(f"{self.annotations}: a picture without 'file_name'")
        return {str(entry["file_name"]): entry for entry in entries}

    @functools.cached_property
    def _doubtful(self) -> dict[str, str]:
        return doubtful_entries(self._file["images"])

    @functools.cached_property
    def _objects(self) -> dict[int | str, list[Annotation]]:
        wanted = self._wanted()
        table: dict[int | str, list[Annotation]] = {}
        for annotation in self._file["annotations"]:
            if not isinstance(annotation, dict) or not isinstance(
                annotation.get("image_id"), int | str
            ):
                raise VitreousError(f"{self.annotations}: an annotation without an 'image_id'")
            known = wanted is None or annotation.get("category_id") in wanted
            if known and (self.crowds or not annotation.get("iscrowd")):
                table.setdefault(annotation["image_id"], []).append(annotation)
        return table

    def _wanted(self) -> set[int | str] | None:
        if self.categories is None:
            return None
        try:
            names = {entry["name"]: entry["id"] for entry in self._file.get("categories", [])}
        except (KeyError, TypeError) as error:
            raise VitreousError(f"{self.annotations}: a category without {error}") from error
        for name in self.categories:
            if name not in names:
                raise VitreousError(
                    f"{self.annotations} has no category '{name}'; {nearest(name, names)}"
                )
        return {names[name] for name in self.categories}


def _draw(
    shape: list[list[float]] | RunLengths, size: tuple[int, int], where: str
) -> tuple[np.ndarray, str]:
    if isinstance(shape, list):
        return fill(shape, size)
    height, width = shape["size"]
    if (width, height) != size:
        raise MaskError(
            f"{where}: a run-length mask of {width}×{height} pixels for a picture of "
            f"{size[0]}×{size[1]}"
        )
    return decode_lengths(shape["counts"], size), ""


def _numbers(entries: Iterable[ImageEntry]) -> set[int | str]:
    """The ids of images; what is no id is told in the image's own row."""
    ids = (entry.get("id") for entry in entries)
    return {number for number in ids if isinstance(number, int | str)}
