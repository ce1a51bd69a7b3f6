"""Which classes of a set are which of ImageNet-1k: JSON files, and how they are read."""

from __future__ import annotations

import functools
from importlib import resources
from typing import TypedDict

from vitreous.io import read_json


class ClassMap(TypedDict, total=False):
    """A class map of the package.

    Attributes:
        source: Where it comes from.
        wnids: WordNet ids in the order of the classes.
        classes: Folder or category → its classes of ImageNet-1k.
        groups: Group of corruptions → their names.
        alexnet_error: Corruption → AlexNet's mean error, which mCE divides by.
    """

    source: str
    wnids: list[str]
    classes: dict[str, list[int]]
    groups: dict[str, list[str]]
    alexnet_error: dict[str, float]


@functools.cache
def class_map(name: str) -> ClassMap:
    """Read a class map of the package: JSON with its `source`."""
    with resources.as_file(resources.files(__name__) / f"{name}.json") as file:
        return read_json(file)
