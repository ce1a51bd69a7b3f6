"""Images from visitors: limits on bytes and dimensions, messages instead of stack traces."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vitreous.data.images import open_image
from vitreous.errors import ImageError

LARGEST_FILE = 10 * 2**20
LARGEST_SIDE = 8192
MOST_PIXELS = 40_000_000
# What an image takes while it is decoded and made RGB; 16 bits go through double precision.
MOST_BYTES = 320 * 2**20
BYTES_A_PIXEL = {"1": 4, "L": 4, "P": 8, "RGB": 6, "RGBA": 16, "CMYK": 8, "LA": 14, "PA": 14}
OTHER_BYTES = 28


def open_upload(path: str | os.PathLike[str]) -> Image.Image:
    """Open a visitor's image as RGB.

    The dimensions are read from the header and checked before a pixel is decoded.

    Raises:
        ImageError: If it is too large, too small, or cannot be read; names the file without its
            folder.
    """
    file = Path(path)
    name = file.name
    try:
        size = file.stat().st_size
        if size > LARGEST_FILE:
            raise ImageError(f"{name} has {size / 2**20:.0f} MB; {LARGEST_FILE >> 20} are allowed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as header:
                width, height = header.size
                needed = width * height * BYTES_A_PIXEL.get(header.mode, OTHER_BYTES)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name} is not a picture that can be read") from error
    if max(width, height) > LARGEST_SIDE or width * height > MOST_PIXELS:
        raise ImageError(
            f"{name} has {width} × {height} pixels; at most {LARGEST_SIDE} a side and "
            f"{MOST_PIXELS // 10**6} million in all are allowed"
        )
    if needed > MOST_BYTES:
        raise ImageError(
            f"{name} would take {needed >> 20} MB to decode; {MOST_BYTES >> 20} are allowed: "
            "make it smaller, or give it 8 bits a channel"
        )
    try:
        return open_image(file)
    except ImageError as error:
        raise ImageError(str(error).replace(str(file), name)) from error
