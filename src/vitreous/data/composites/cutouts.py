"""Cut-outs (RGBA files whose alpha is the foreground) and backgrounds, as files."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image, UnidentifiedImageError

from vitreous.data.dataset import LeftOut
from vitreous.data.images import list_images, open_image
from vitreous.data.listing import NO_IMAGES, left_out, list_files
from vitreous.errors import ImageError, VitreousError
from vitreous.io import file_stamp

WITH_ALPHA = (".png", ".webp", ".gif")


class AnyCutout(Protocol):
    """An object without its background, from wherever.

    Attributes:
        label: Its class.
        name: What it is called in lists.
    """

    @property
    def label(self) -> int: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102

    def stamp(self) -> tuple[int, ...]:
        """What changes when it does."""
        ...

    def open(self) -> Image.Image:
        """Read it as RGBA, cropped to its object; raises `ImageError`."""
        ...


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A cut-out file with its class.

    Attributes:
        path: The file.
        label: Its class.
    """

    path: Path
    label: int = 0

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    def stamp(self) -> tuple[int, ...]:
        """Size and time of change of the file."""
        return file_stamp(self.path)

    def open(self) -> Image.Image:
        """Read it, cropped to its object."""
        return open_cutout(self.path)


@functools.lru_cache(maxsize=64)
def open_cutout(path: str | os.PathLike[str]) -> Image.Image:
    """Read a cut-out as RGBA, cropped to the box of what is at least half opaque.

    Raises:
        ImageError: If it cannot be read, has no transparency, or shows nothing.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            if "A" not in opened.getbands() and "transparency" not in opened.info:
                raise ImageError(f"{path} has no alpha channel; expected a cut-out (RGBA)")
            image = opened.convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} is not a picture that can be read: {error}") from error
    box = image.getchannel("A").point(lambda alpha: 255 if alpha >= 128 else 0).getbbox()
    if box is None:
        raise ImageError(f"{path} is transparent all over; expected an object in it")
    return image.crop(box)


@functools.lru_cache(maxsize=64)
def open_background(path: str | os.PathLike[str], size: int) -> Image.Image:
    """Read a background: the square at its top left, as in SI-Score, resized.

    Args:
        path: An image file.
        size: Height and width in pixels.
    """
    image = open_image(path)
    side = min(image.size)
    return image.crop((0, 0, side, side)).resize((size, size), Image.Resampling.BILINEAR)


def find_cutouts(
    folder: str | os.PathLike[str], classes: Sequence[str] | None = None
) -> tuple[list[Cutout], list[str]]:
    """List cut-outs `FOLDER/CLASS/a.png`, sorted; files right in the folder are one class each.

    Args:
        folder: Where they are.
        classes: Names that give the labels their order; others are an error.

    Returns:
        The cut-outs, and the class names in the order of the labels.

    Raises:
        VitreousError: If there are none, or a class is not among `classes`.
    """
    root = Path(folder)
    files = [p for p in list_images(root) if p.suffix.lower() in WITH_ALPHA]
    if not files:
        raise VitreousError(f"{root} holds no cut-outs; expected CLASS/name.png with transparency")
    own = [_class_of(path, root) for path in files]
    names = list(classes) if classes is not None else sorted(set(own))
    unknown = sorted(set(own) - set(names))
    if unknown:
        raise VitreousError(f"{root}: class '{unknown[0]}' is not among the given classes")
    return [Cutout(path, names.index(name)) for path, name in zip(files, own)], names


def no_cutouts(folder: str | os.PathLike[str]) -> tuple[LeftOut, ...]:
    """Name the files that `find_cutouts` passes over."""
    listing = list_files(Path(folder))
    opaque = [n for n in listing.images if os.path.splitext(n)[1].lower() not in WITH_ALPHA]
    kinds = {"images without transparency": opaque, NO_IMAGES: listing.others}
    return left_out(kinds)


def _class_of(path: Path, root: Path) -> str:
    relative = path.relative_to(root)
    return relative.parts[0] if len(relative.parts) > 1 else path.stem
