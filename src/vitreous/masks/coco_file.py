"""COCO's JSON as it is meant to be; files of others are checked where they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict, cast

from vitreous.errors import shorten
from vitreous.masks.base import MaskError


class ImageEntry(TypedDict):
    """An entry of `images`."""

    id: int | str
    file_name: str
    width: int
    height: int


class RunLengths(TypedDict):
    """A mask as run lengths: height and width, and the lengths or their compressed text."""

    size: list[int]
    counts: str | list[int]


class Annotation(TypedDict):
    """An entry of `annotations`: one object."""

    image_id: int | str
    category_id: int | str
    bbox: list[float]
    segmentation: list[list[float]] | RunLengths
    iscrowd: NotRequired[int]


class Category(TypedDict):
    """An entry of `categories`."""

    id: int | str
    name: str


class CocoFile(TypedDict):
    """The whole file."""

    images: list[ImageEntry]
    annotations: list[Annotation]
    categories: NotRequired[list[Category]]


def doubtful_entries(images: Sequence[ImageEntry]) -> dict[str, str]:
    """Name → why it is not clear which objects are its picture's, of those where it is not.

    Two entries share an id, so that the objects of the one may be the other's, or a name.
    """
    by_id: dict[object, set[str]] = {}
    by_name: dict[str, set[object]] = {}
    for entry in images:
        number, name = entry.get("id"), str(entry["file_name"])
        if isinstance(number, int | float | str):
            by_id.setdefault(number, set()).add(name)
            by_name.setdefault(name, set()).add(number)
    found = {
        name: f"{name} is listed with the ids {' and '.join(sorted(map(str, numbers))[:2])}"
        for name, numbers in by_name.items()
        if len(numbers) > 1
    }
    for number, names in by_id.items():
        if len(names) > 1:
            first, second = sorted(names)[:2]
            found |= dict.fromkeys(names, f"{first} and {second} have one id, {number}")
    return found


def whole_number(entry: Mapping[str, object], key: str, where: str) -> int:
    """Pixels of a picture; raises MaskError where they are no whole number of 1 or more."""
    value = entry.get(key)
    try:
        number = int(value) if isinstance(value, int | float | str) else 0
    except (ValueError, OverflowError):  # a text, NaN, infinity
        number = 0
    if number < 1:
        raise MaskError(
            f"{where}: its {key} is {shorten(value)}, expected a whole number of 1 or more"
        )
    return number


def checked_shape(annotation: Mapping[str, object], where: str) -> list[list[float]] | RunLengths:
    """The segmentation of an object, of which at least the types are right.

    Raises:
        MaskError: If it is neither polygons nor run lengths.
    """
    shape = annotation.get("segmentation")
    if isinstance(shape, list):
        for polygon in shape:
            points = polygon if isinstance(polygon, list) else [polygon]
            odd = [value for value in points if not _is_number(value)]
            if odd or points is not polygon:
                found = shorten(odd[0] if odd else polygon)
                raise MaskError(f"{where}: expected polygons of numbers, found {found}")
        return cast("list[list[float]]", shape)
    if not isinstance(shape, dict):
        found = "none" if shape is None else shorten(shape)
        raise MaskError(f"{where}: expected polygons or run lengths of an object, found {found}")
    size, counts = shape.get("size"), shape.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(map(_is_number, size)):
        raise MaskError(f"{where}: the size of a run-length mask is {shorten(size)}, expected two")
    if not isinstance(counts, str | list):
        raise MaskError(f"{where}: the lengths of a run-length mask are {shorten(counts)}")
    return cast("RunLengths", shape)


def _is_number(value: object) -> bool:
    fits = isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)
    return fits and not isinstance(value, bool)
