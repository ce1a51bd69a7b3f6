"""What lies in a folder: images, and everything else by name."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vitreous.data.dataset import LeftOut
from vitreous.data.images import EXTENSIONS
from vitreous.data.stores.files import Names

NO_IMAGES = "files that are no images"
HIDDEN = "hidden files"


@dataclasses.dataclass(frozen=True)
class Listing:
    """Files below a folder, by their path relative to it.

    Attributes:
        images: Image files, sorted part by part.
        others: Files of another kind.
        hidden: Files and folders whose name begins with a dot.
        folders: Folders directly in it, integers in the order of their values.
    """

    images: tuple[str, ...]
    others: tuple[str, ...]
    hidden: tuple[str, ...]
    folders: tuple[str, ...]

    def left_out(self) -> tuple[LeftOut, ...]:
        """What is there beside images."""
        return left_out({NO_IMAGES: self.others, HIDDEN: self.hidden})


def list_files(root: Path) -> Listing:
    """List all files below a folder; links are followed, each folder is entered once."""
    images, others, hidden, folders = [], [], [], []
    seen: set[tuple[int, int]] = set()
    for place, inner, files in os.walk(root, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        prefix = "" if place == str(root) else f"{Path(place).relative_to(root).as_posix()}/"
        hidden += [f"{prefix}{name}/" for name in inner if name.startswith(".")]
        inner[:] = [name for name in inner if not name.startswith(".")]
        if not prefix:
            folders = list(inner)
        for name in files:
            kind = hidden if name.startswith(".") else images if is_image(name) else others
            kind.append(prefix + name)
    ordered = (tuple(sorted(names, key=_parts)) for names in (images, others, hidden))
    return Listing(*ordered, tuple(in_order(folders)))


def is_image(name: str) -> bool:
    """Whether a file name has the suffix of an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names as text; if all of them are integers, by their values."""
    given = list(names)
    if given and all(re.fullmatch("[0-9]+", name) for name in given):
        return sorted(given, key=lambda name: (int(name), name))
    return sorted(given)


def left_out(kinds: Mapping[str, Sequence[str]]) -> tuple[LeftOut, ...]:
    """Name what was passed over; kinds of which there is nothing are not mentioned."""
    return tuple(LeftOut(what, texts(names)) for what, names in kinds.items() if names)


def texts(names: Iterable[str]) -> tuple[str, ...]:
    """File names as text that can be written anywhere."""
    held = Names(names)
    return tuple(held.text(i) for i in range(len(held)))


def _parts(name: str) -> list[str]:
    return name.split("/")
