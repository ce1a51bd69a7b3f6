"""Polygons and boxes to masks, through pycocotools."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from vitreous.errors import require

FARTHEST = 16
"""Sides of the image that a polygon's points may lie away."""


def fill(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Fill polygons; what lies outside the image is cut off.

    Args:
        polygons: Each x1, y1, x2, y2, … in pixels.
        size: Width and height of the image.

    Returns:
        Their union (H, W) bool, and a note about what was odd, empty where nothing was.
    """
    tools = require("pycocotools.mask", "masks")
    width, height = size
    good = [list(p) for p in polygons if is_polygon(p) and _near(p, size)]
    notes = []
    if len(good) < len(polygons):
        notes.append(f"{len(polygons) - len(good)} malformed polygons left out")
    if beyond := sum(outside(p, size) for p in good):
        notes.append(f"{beyond} polygons reach beyond the picture and were cut off")
    mask = np.zeros((height, width), bool)
    if good:
        parts = tools.frPyObjects(good, height, width)
        mask = decode(tools.merge(parts))
    return mask, "; ".join(notes)


def decode(lengths: Mapping[str, object]) -> np.ndarray:
    """Decode COCO's compressed run lengths to (H, W) bool."""
    tools = require("pycocotools.mask", "masks")
    with warnings.catch_warnings():
        # pycocotools' own array class does not know NumPy 2's `copy` argument.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return tools.decode(lengths).astype(bool)


def is_polygon(polygon: Sequence[float]) -> bool:
    """Whether these are three or more points with finite coordinates."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0 and all(map(math.isfinite, polygon))


def _near(polygon: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether no point is absurdly far away: pycocotools takes memory by a polygon's length."""
    return max(map(abs, polygon)) <= FARTHEST * max(size)


def outside(polygon: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a point is more than a pixel outside of the image."""
    xs, ys = polygon[::2], polygon[1::2]
    return min(*xs, *ys) < -1 or max(xs) > size[0] + 1 or max(ys) > size[1] + 1


def boxes_mask(
    boxes: Sequence[tuple[float, float, float, float]], size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    """Fill boxes; what lies outside the image is cut off.

    Args:
        boxes: Left, top, right, bottom in pixels, right and bottom exclusive.
        size: Width and height of the image.

    Returns:
        Their union (H, W) bool, and a note, empty where nothing was odd.
    """
    width, height = size
    mask = np.zeros((height, width), bool)
    beyond = 0
    for left, top, right, bottom in boxes:
        beyond += left < -1 or top < -1 or right > width + 1 or bottom > height + 1
        mask[
            max(round(top), 0) : max(round(bottom), 0), max(round(left), 0) : max(round(right), 0)
        ] = True
    return mask, f"{beyond} boxes reach beyond the picture and were cut off" if beyond else ""
