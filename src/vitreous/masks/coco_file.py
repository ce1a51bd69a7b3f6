"""COCO's JSON as it is meant to be; files of others are checked where they are used."""

from __future__ import annotations

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
