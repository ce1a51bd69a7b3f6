"""Boxes and points of objects, from files: what box masks are filled with, and what SAM is asked.

Boxes come as a JSON table (Tiny-ImageNet), a CSV table, COCO's JSON, or Pascal VOC's XML files;
points as a JSON table.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from vitreous.errors import VitreousError
from vitreous.io import read_json
from vitreous.masks.base import MaskError, MaskItem, file_items, listed_items
from vitreous.masks.coco_file import CocoFile, doubtful_entries

Box = tuple[float, float, float, float]
COLUMNS = ("path", "xmin", "ymin", "xmax", "ymax")


class Doubt(str):
    """Why it is not clear what a table says of an image, in place of what it says."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class PromptFile:
    """A table of what is known of each image, found by its name (`vitreous.data.matching`).

    Attributes:
        file: The file.
    """

    file: Path

    def items(self, images: Path | None, method: str) -> list[MaskItem]:
        """One for each image; then, each with a problem, what the table has no image of."""
        if images is None:
            raise VitreousError(f"{self.file} holds no sizes; give the folder of the pictures too")
        return listed_items(images, self.file, list(self.table), method)

    def rows(self, item: MaskItem) -> list[list[object]]:
        """What the table says of an image: a list of boxes or of points.

        Raises:
            MaskError: If it says nothing, or no list.
        """
        if item.key not in self.table:
            raise MaskError(f"{self.file} has nothing of {item.image}")
        rows = self.table[item.key]
        if isinstance(rows, Doubt):
            raise MaskError(f"{self.file}: {rows}")
        if not isinstance(rows, list) or not rows:
            raise MaskError(f"{self.file}: {item.key}: expected a list, found {str(rows)[:40]}")
        return rows if isinstance(rows[0], list) else [rows]

    @functools.cached_property
    def table(self) -> Mapping[str, object]:
        """Image → rows as they stand in the file."""
        table = read_json(self.file)
        if not isinstance(table, dict):
            raise VitreousError(f"{self.file}: expected picture names with boxes or points")
        return table

    def points(self, item: MaskItem) -> list[tuple[float, float, float]]:
        """Points of an image: x, y in pixels and 1 for the object, 0 for the background.

        Raises:
            MaskError: If there are none, or they are no numbers.
        """
        points = []
        for row in self.rows(item):
            x, y = _numbers(row[:2] if isinstance(row, list) else row, 2, self.file, item)
            points.append((x, y, 0.0 if row[2:] == [0] else 1.0))
        return points


@dataclasses.dataclass(frozen=True)
class BoxFile(PromptFile):
    """Boxes of objects.

    A JSON file `{"a/b.jpg": [xmin, ymin, xmax, ymax]}` (or a list of such boxes) or a CSV file
    with the columns path, xmin, ymin, xmax, ymax, the last row and column included; COCO's JSON;
    or a folder of Pascal VOC's XML files.

    Attributes:
        names: Names of the objects that count, for XML and COCO; all where not given.
    """

    names: tuple[str, ...] | None = None

    def items(self, images: Path | None, method: str) -> list[MaskItem]:
        """As of a table; XML files state sizes and need no images."""
        if self.file.is_dir() or not self.file.exists():
            return file_items(self.file, images, (".xml",), "XML files")
        return super().items(images, method)

    def boxes(self, item: MaskItem) -> tuple[tuple[int, int] | None, list[Box]]:
        """Size (width, height) where the file states one, and boxes.

        Returns:
            Left, top, right, bottom in pixels; right and bottom exclusive.

        Raises:
            MaskError: If there are none, or they are no numbers.
        """
        if item.source.suffix == ".xml":
            return self._xml(item)
        boxes = [_numbers(row, 4, self.file, item) for row in self.rows(item)]
        return None, [(x0, y0, x1 + 1, y1 + 1) for x0, y0, x1, y1 in boxes]

    @functools.cached_property
    def table(self) -> Mapping[str, object]:
        """Image → boxes, the last row and column included."""
        if self.file.suffix.lower() == ".csv":
            return _csv(self.file)
        table = read_json(self.file)
        if isinstance(table, dict) and {"images", "annotations"} <= table.keys():
            return _coco(self.file, table, self.names)
        if not isinstance(table, dict):
            raise VitreousError(f"{self.file}: expected picture names with boxes")
        return table

    def _xml(self, item: MaskItem) -> tuple[tuple[int, int] | None, list[Box]]:
        path = item.source
        try:
            root = ElementTree.parse(path).getroot()
            width, height = (int(root.findtext(f"size/{k}") or 0) for k in ("width", "height"))
            found = [
                [float(entry.findtext(f"bndbox/{c}") or "") for c in COLUMNS[1:]]
                for entry in root.iter("object")
                if self.names is None or entry.findtext("name") in self.names
            ]
        except OSError as error:
            raise MaskError(f"no XML file at {path}") from error
        except (ElementTree.ParseError, ValueError) as error:
            raise MaskError(f"{path} is not a Pascal VOC file: {error}") from error
        # Pascal VOC counts pixels from 1 and includes the last.
        boxes = [_numbers(box, 4, path, item) for box in found]
        stated = (width, height) if width > 0 and height > 0 else None
        return stated, [(x0 - 1, y0 - 1, x1, y1) for x0, y0, x1, y1 in boxes]


def _number(value: object) -> float:
    if not isinstance(value, int | float | str):
        raise TypeError(f"expected a number, found {value!r}")
    return float(value)


def _numbers(row: object, count: int, file: Path, item: MaskItem) -> tuple[float, ...]:
    try:
        if not isinstance(row, Iterable):
            raise TypeError(f"expected numbers, found {row!r}")
        values = tuple(_number(value) for value in row)
    except (TypeError, ValueError, OverflowError):
        values = ()
    if len(values) != count or not all(map(math.isfinite, values)):
        wanted = "xmin, ymin, xmax, ymax" if count == 4 else "x, y"
        raise MaskError(
            f"{file}: {item.key or item.name}: expected {wanted} as finite numbers, found "
            f"{str(row)[:60]}"
        )
    return values


def _csv(file: Path) -> dict[str, list[list[str]]]:
    table: dict[str, list[list[str]]] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise VitreousError(f"{file}: expected the columns {', '.join(COLUMNS)}")
            for row in reader:
                table.setdefault(str(row["path"]), []).append([row[c] for c in COLUMNS[1:]])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VitreousError(f"{file} is not a CSV file that can be read: {error}") from error
    return table


def _coco(file: Path, content: CocoFile, names: Sequence[str] | None) -> dict[str, object]:
    try:
        wanted = {c["id"] for c in content.get("categories", []) if names and c["name"] in names}
        files = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
        doubtful = {k: Doubt(v) for k, v in doubtful_entries(content["images"]).items()}
        table: dict[str, list[list[object]]] = {}
        for entry in content["annotations"]:
            if entry["image_id"] in files and (names is None or entry["category_id"] in wanted):
                table.setdefault(files[entry["image_id"]], []).append(_last(entry["bbox"]))
    except KeyError as error:
        raise VitreousError(f"{file} is not a COCO file with boxes: one lacks {error}") from error
    except (TypeError, AttributeError) as error:
        raise VitreousError(
            f"{file} is not a COCO file with boxes: expected pictures and objects with their values"
        ) from error
    return {**table, **doubtful}


def _last(box: object) -> list[object]:
    """COCO's left, top, width, height with the last row and column instead; others as they are."""
    try:
        if not isinstance(box, Iterable):
            raise TypeError(f"expected numbers, found {box!r}")
        left, top, width, height = (_number(value) for value in box)
    except (TypeError, ValueError):
        return [box]
    return [left, top, left + width - 1, top + height - 1]
