"""Refinement of coarse masks: the edges of the picture become those of the mask.

The filters are OpenCV's: `bilateral_solver` and `guided` come with its contributed modules
(`opencv-contrib-python-headless`), `grabcut` with every build.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vitreous.errors import VitreousError, require
from vitreous.registry import Registry

Refinement = Callable[[np.ndarray, np.ndarray], np.ndarray]
EDGES: Registry[Refinement] = Registry("edge refinement")
LONGEST = 512


def refine(name: str, image: np.ndarray, coarse: np.ndarray) -> tuple[np.ndarray, str]:
    """Refine a coarse mask by the picture, and never lose it.

    A filter may swap foreground and background, or leave nothing. The refined mask is taken if it
    overlaps the coarse one by half (IoU), else its complement if that does, else the coarse mask
    stays. (The published code multiplies a boolean mask by -1 there, which empties it.)

    Args:
        name: A name in `EDGES`.
        image: (H, W, 3) uint8.
        coarse: (rows, columns) bool, of any resolution.

    Returns:
        (H, W) bool, and a note that is empty where the refined mask was taken.
    """
    cv2: Any = require("cv2", "masks")
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
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
    cv2: Any = require("cv2", "masks")
    return cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


@EDGES.register("none")
def keep(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Enlarge only."""
    return enlarge(coarse, image.shape[:2]) > 0.5


@EDGES.register("guided")
def guided(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Guided filter (He et al. 2013): radius of one coarse cell, regularisation 1e-4."""
    contributed = _contributed()
    radius = max(round(max(image.shape[:2]) / max(coarse.shape)), 2)
    guide = image.astype(np.float32) / 255
    soft = enlarge(coarse, image.shape[:2])
    return contributed.guidedFilter(guide, soft, radius, 1e-4) > 0.5


@EDGES.register("bilateral_solver")
def bilateral_solver(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Fast bilateral solver (Barron and Poole 2016) with TokenCut's sigmas 16, 16 and 8."""
    contributed = _contributed()
    target = enlarge(coarse, image.shape[:2])
    solved = contributed.fastBilateralSolverFilter(
        np.ascontiguousarray(image[..., ::-1]),
        target,
        np.full(target.shape, 0.999, np.float32),
        sigma_spatial=16,
        sigma_luma=16,
        sigma_chroma=8,
        num_iter=25,
        max_tol=1e-5,
    )
    return solved > 0.5


@EDGES.register("grabcut")
def grabcut(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """GrabCut (Rother et al. 2004), one iteration; only cells at the mask's edge are in doubt."""
    cv2: Any = require("cv2", "masks")
    inner, outer = (f(coarse.astype(np.uint8), np.ones((3, 3))) for f in (cv2.erode, cv2.dilate))
    size = image.shape[:2]
    labels = np.where(enlarge(coarse, size) > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[enlarge(inner, size) > 0.99] = cv2.GC_FGD
    labels[enlarge(outer, size) < 0.01] = cv2.GC_BGD
    if not ((labels % 2 == 1).any() and (labels % 2 == 0).any()):
        return labels % 2 == 1
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(image[..., ::-1])
    cv2.grabCut(bgr, labels, None, *models, 1, cv2.GC_INIT_WITH_MASK)
    return labels % 2 == 1


def _contributed() -> Any:
    cv2: Any = require("cv2", "masks")
    if not hasattr(cv2, "ximgproc"):
        raise VitreousError(
            "this OpenCV has no guided filter and no bilateral solver; replace it: pip uninstall "
            "opencv-python-headless && pip install opencv-contrib-python-headless, or use "
            "--edges grabcut"
        )
    return cv2.ximgproc
