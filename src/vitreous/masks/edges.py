"""Refinement of coarse masks: the edges of the image become those of the mask.

The filters are OpenCV's: `bilateral` runs with every build, `guided` is faster and comes with the
contributed modules (`opencv-contrib-python-headless`). The paper's bilateral solver needs a build
with Eigen, which those on PyPI are not, so it is not here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vitreous.errors import VitreousError, require
from vitreous.registry import Registry

Refinement = Callable[[np.ndarray, np.ndarray], np.ndarray]
EDGES: Registry[Refinement] = Registry("edge refinement")
PER_CELL, LONGEST = 10, 512
DIAMETER = 13


def refine(name: str, image: np.ndarray, coarse: np.ndarray) -> tuple[np.ndarray, str]:
    """Refine a coarse mask by the image, and never lose it.

    A filter may swap foreground and background, or leave nothing. The refined mask is taken if it
    overlaps the coarse one by half (IoU), else its complement if that does, else the coarse mask
    stays. (The published code multiplies a boolean mask by -1 there, which empties it.)

    The filter works at 10 pixels a cell of the coarse mask, at most 512; finer is only slower.

    Args:
        name: A name in `EDGES`.
        image: (H, W, 3) uint8.
        coarse: (rows, columns) bool, of any resolution.

    Returns:
        (H, W) bool, and a note that is empty where the refined mask was taken.
    """
    cv2 = require("cv2", "masks")
    height, width = image.shape[:2]
    longest = min(PER_CELL * max(coarse.shape), LONGEST)
    scale = min(1.0, longest / max(height, width))
    small = image
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    unrefined = enlarge(coarse, small.shape[:2]) > 0.5
    refined, note = safest(unrefined, EDGES[name](small, coarse))
    return enlarge(refined, (height, width)) > 0.5, note


def safest(coarse: np.ndarray, refined: np.ndarray) -> tuple[np.ndarray, str]:
    """Choose the refined mask, its complement or the coarse mask: the first that fits by half.

    Args:
        coarse: (H, W) bool.
        refined: (H, W) bool.
    """
    for candidate, note in ((refined, ""), (~refined, "the edge filter had swapped the sides")):
        union = (candidate | coarse).sum()
        if union and (candidate & coarse).sum() >= 0.5 * union:
            return candidate, note
    return coarse, "edges not refined: the filter lost the object"


def enlarge(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask linearly to height and width: float32 in [0, 1]."""
    cv2 = require("cv2", "masks")
    return cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


def fill_gaps(mask: np.ndarray, share: float) -> np.ndarray:
    """Fill small gaps: connected parts of the background (8 neighbours), wherever they lie.

    Args:
        mask: (H, W) bool.
        share: Parts that cover less than this share of the image are filled.

    Returns:
        (H, W) bool.

    Examples:
        >>> ring = np.ones((4, 4), bool)
        >>> ring[1, 1] = False
        >>> bool(fill_gaps(ring, 0.1).all()), bool(fill_gaps(ring, 0.05).all())
        (True, False)
    """
    cv2 = require("cv2", "masks")
    background = (~mask).astype(np.uint8)
    _, parts, about, _ = cv2.connectedComponentsWithStats(background, connectivity=8)
    small = about[:, cv2.CC_STAT_AREA] < share * mask.size
    return mask | small[parts]


@EDGES.register("none")
def keep(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Enlarge only."""
    return enlarge(coarse, image.shape[:2]) > 0.5


@EDGES.register("bilateral")
def bilateral(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Joint bilateral filter: the mask is averaged over near pixels of similar colour.

    OpenCV's main modules filter an image only by itself. So the mask goes in as a third channel,
    too small to count among the two that hold most of the image's colour.
    """
    cv2 = require("cv2", "masks")
    colors = image.reshape(-1, 3).astype(np.float32) / 255
    colors = colors - colors.mean(0)
    _, axes = np.linalg.eigh(colors.T @ colors)
    size = image.shape[:2]
    guide = (colors @ axes[:, :0:-1].astype(np.float32)).reshape(*size, 2)
    tiny = 1e-3
    stacked = np.dstack([guide, enlarge(coarse, size) * tiny]).astype(np.float32)
    filtered = cv2.bilateralFilter(stacked, DIAMETER, sigmaColor=0.1, sigmaSpace=DIAMETER / 2)
    return filtered[..., 2] > 0.5 * tiny


@EDGES.register("guided")
def guided(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Guided filter (He et al. 2013), of OpenCV's contributed modules."""
    cv2 = require("cv2", "masks")
    if not hasattr(cv2, "ximgproc"):
        raise VitreousError(
            "this OpenCV has no guided filter; replace opencv-python-headless by "
            "opencv-contrib-python-headless, or use --edges bilateral"
        )
    guide = image.astype(np.float32) / 255
    soft = enlarge(coarse, image.shape[:2])
    return cv2.ximgproc.guidedFilter(guide, soft, DIAMETER // 2, 1e-2) > 0.5
