"""What processing does to an image: contrast, distortion, coarse pixels, compression, color."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from vitreous.evaluation.corruptions.base import CORRUPTIONS, eight_bit, unit

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)
QUALITY = (25, 18, 15, 10, 7)
SATURATE = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))  # factor, added
# In units of 244 pixels (sic): strength and deviation of the field, jitter of the affine map.
ELASTIC = (
    (2, 0.7, 0.1),
    (2, 0.08, 0.2),
    (0.05, 0.01, 0.02),
    (0.07, 0.01, 0.02),
    (0.12, 0.01, 0.02),
)


@CORRUPTIONS.register("contrast")
def contrast(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Draw each channel's values to their mean."""
    values = unit(image)
    mean = values.mean(axis=(0, 1), keepdims=True)
    return eight_bit((values - mean) * CONTRAST[severity - 1] + mean)


@CORRUPTIONS.register("saturate")
def saturate(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Scale and shift the saturation of HSV; a gray pixel counts as a red hue, as published."""
    factor, added = SATURATE[severity - 1]
    values = unit(image)
    value = values.max(axis=2, keepdims=True)
    range_ = value - values.min(axis=2, keepdims=True)
    saturation = range_ / np.maximum(value, 1e-9)
    wanted = np.clip(saturation * factor + added, 0, 1)
    pure = np.where(range_ > 0, (value - values) / np.maximum(range_, 1e-9), [0.0, 1.0, 1.0])
    return eight_bit(value * (1 - wanted * pure))


@CORRUPTIONS.register("pixelate")
def pixelate(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Shrink and enlarge, each by averages over boxes."""
    height, width = image.shape[:2]
    share = PIXELATE[severity - 1]
    small = (max(1, int(width * share)), max(1, int(height * share)))
    coarse = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(coarse.resize((width, height), Image.Resampling.BOX))


@CORRUPTIONS.register("jpeg_compression")
def jpeg_compression(
    image: np.ndarray, severity: int, generator: np.random.Generator
) -> np.ndarray:
    """Compress as JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY[severity - 1])
    return np.asarray(Image.open(file))


@CORRUPTIONS.register("elastic_transform")
def elastic_transform(
    image: np.ndarray, severity: int, generator: np.random.Generator
) -> np.ndarray:
    """Move three corners of a square at random, then every pixel by a smooth random field."""
    strength, sigma, jitter = (244 * c for c in ELASTIC[severity - 1])
    shape = image.shape[:2]
    affine = _jittered(shape, jitter, generator)
    field = [
        strength
        * ndimage.gaussian_filter(
            generator.uniform(-1, 1, shape), sigma, mode="reflect", truncate=3
        )
        for _ in range(2)
    ]
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    placed = np.stack([columns, rows, np.ones(shape)])
    back = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2]
    x, y = np.tensordot(back, placed, axes=1)
    values = _look_up(unit(image), y, x, "mirror")
    return eight_bit(_look_up(values, rows + field[1], columns + field[0], "reflect"))


def _jittered(shape: tuple[int, int], jitter: float, generator: np.random.Generator) -> np.ndarray:
    """The affine map (2, 3) of (x, y, 1) that moves three corners of the central third."""
    center = np.array(shape) // 2
    side = min(shape) // 3
    corners = center + side * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + generator.uniform(-jitter, jitter, corners.shape)
    return np.linalg.solve(np.hstack([corners, np.ones((3, 1))]), moved).T


def _look_up(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    """Values (H, W, C) at fractional places (H, W), linear; `mode` says what lies outside."""
    channels = [
        ndimage.map_coordinates(values[..., c], (rows, columns), order=1, mode=mode)
        for c in range(values.shape[2])
    ]
    return np.stack(channels, axis=2)
