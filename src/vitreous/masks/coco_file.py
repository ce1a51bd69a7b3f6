"""COCO's JSON as it is meant to be; files of others are checked where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict


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
