"""JPEGs decoded at a half, a quarter or an eighth of their size, where a view needs no more."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Generator

from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

Reduction = Callable[[int, int], int]
SCALES = (8, 4, 2, 1)
# EXIF's numbers of orientations, by what they do to the stored image to make it upright.
ON_SIDE, MIRRORED, FLIPPED = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
_WHOLE = "vitreous.whole"
_reduction: contextvars.ContextVar[Reduction | None] = contextvars.ContextVar(
    "_reduction", default=None
)


@dataclasses.dataclass(frozen=True)
class Whole:
    """The image that a reduced one stands for.

    Attributes:
        width: In pixels.
        height: In pixels.
        scale: How many of them one reduced pixel spans.
        left: Where it begins in the reduced image, in reduced pixels: what is decoded is filled up
            to whole ones, which in a photograph that is turned upright may be at its left or top.
        top: The same from above.
    """

    width: int
    height: int
    scale: int = 1
    left: float = 0.0
    top: float = 0.0

    def place(self, left: int, top: int, width: int, height: int) -> tuple[float, ...]:
        """Left, top, right and bottom in the reduced image of a box in the whole one."""
        across, down = self.left + left / self.scale, self.top + top / self.scale
        return across, down, across + width / self.scale, down + height / self.scale


@contextlib.contextmanager
def reduced_decoding(reduction: Reduction | None) -> Generator[None]:
    """Let JPEGs be decoded at a half, a quarter or an eighth of their size inside the context.

    Args:
        reduction: From width and height of an image, upright, to how many of its pixels one may
            span: 1, 2, 4 or 8; None for no reduction.
    """
    token = _reduction.set(reduction)
    try:
        yield
    finally:
        _reduction.reset(token)


def shorter_side(least: int) -> Reduction:
    """Reduce as far as the shorter side keeps `least` pixels."""

    def reduction(width: int, height: int) -> int:
        return scale_below(min(width, height) / least)

    return reduction


def scale_below(ratio: float) -> int:
    """The largest scale that is not above a ratio; 1 where none is."""
    return next((scale for scale in SCALES if scale <= ratio), 1)


def whole_of(image: Image.Image) -> Whole:
    """The image that one stands for; itself, where it was not reduced."""
    return image.info.get(_WHOLE) or Whole(*image.size)


def draft(opened: Image.Image) -> Whole | None:
    """Reduce an image that is not yet decoded, where the context allows it and its format can.

    Returns:
        What it stands for, upright; None where it is not reduced.
    """
    reduction = _reduction.get()
    if reduction is None or not isinstance(opened, JpegImageFile):
        return None
    turn = opened.getexif().get(ExifTags.Base.Orientation, 1)
    sides = opened.size
    width, height = reversed(sides) if turn in ON_SIDE else sides
    scale = reduction(width, height)
    if scale == 1:
        return None
    opened.draft(None, (max(1, sides[0] // scale), max(1, sides[1] // scale)))
    spare = [reduced - side / scale for reduced, side in zip(opened.size, sides)]
    across, down = reversed(spare) if turn in ON_SIDE else spare
    left, top = across * (turn in MIRRORED), down * (turn in FLIPPED)
    return Whole(width, height, scale, left, top)


def mark(image: Image.Image, whole: Whole | None) -> Image.Image:
    """Note on a reduced image what it stands for."""
    if whole is not None:
        image.info[_WHOLE] = whole
    return image
