"""Blur: by the lens, through glass, in motion, in zooming."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, signal

from vitreous.evaluation.corruptions.base import CORRUPTIONS, eight_bit, unit

GAUSSIAN = (1, 2, 3, 4, 6)  # standard deviation in pixels
DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius of the disc, its softness
# Standard deviation of the blur before and after, greatest displacement, rounds.
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius, standard deviation
ZOOM = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # end, step


@CORRUPTIONS.register("gaussian_blur")
def gaussian_blur(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Blur by a Gaussian."""
    return eight_bit(smooth(unit(image), GAUSSIAN[severity - 1]))


@CORRUPTIONS.register("defocus_blur")
def defocus_blur(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Blur by the disc of a lens out of focus."""
    kernel = disc(*DEFOCUS[severity - 1])
    reach = len(kernel) // 2
    padded = np.pad(unit(image), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return eight_bit(signal.fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1)))


@CORRUPTIONS.register("glass_blur")
def glass_blur(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Take each pixel from a place close by, between two slight blurs.

    The published code means to swap two pixels, but its assignment of array views copies one onto
    the other; the published data has that, and so has this.
    """
    sigma, reach, rounds = GLASS[severity - 1]
    blurred = (smooth(unit(image), sigma) * 255).astype(np.uint8)
    height, width = image.shape[:2]
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    places = (rows[:, None] * width + columns).ravel().tolist()
    source = list(range(height * width))
    for _ in range(rounds):
        moves = generator.integers(-reach, reach, size=(len(places), 2))
        shifts = (moves[:, 1] * width + moves[:, 0]).tolist()
        for place, shift in zip(places, shifts):
            source[place] = source[place + shift]
    shuffled = blurred.reshape(-1, 3)[source].reshape(image.shape)
    return eight_bit(smooth(unit(shuffled), sigma))


@CORRUPTIONS.register("motion_blur")
def motion_blur(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Blur along a line, at an angle within 45° of the horizontal."""
    return streak(image, *MOTION[severity - 1], float(generator.uniform(-45, 45)))


@CORRUPTIONS.register("zoom_blur")
def zoom_blur(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Average the image with enlargements of its centre."""
    values = unit(image).astype(np.float32)
    factors = np.arange(1, *ZOOM[severity - 1])
    total = sum((zoom_centre(values, float(factor)) for factor in factors), start=values)
    return eight_bit(total / (len(factors) + 1))


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of each channel of (H, W, C); the border's pixels go on outside."""
    return ndimage.gaussian_filter(values, (sigma, sigma, 0), mode="nearest", truncate=4)


def disc(radius: int, softness: float) -> np.ndarray:
    """A disc that sums to 1, its edge blurred by a Gaussian of 3 (beyond 8 px: 5) taps."""
    reach, taps = (8, 3) if radius <= 8 else (radius, 5)
    offsets = np.arange(-reach, reach + 1)
    flat = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float64)
    weights = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * softness**2))
    kernel = flat / flat.sum()
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, weights / weights.sum(), axis, mode="mirror")
    return kernel


def streak(image: np.ndarray, radius: float, sigma: float, angle: float) -> np.ndarray:
    """Motion blur as ImageMagick has it: half a Gaussian along a line of whole pixels.

    Args:
        image: uint8 (H, W) or (H, W, C).
        radius: Half the number of taps, in pixels.
        sigma: Standard deviation of the Gaussian, in pixels.
        angle: Direction in degrees, clockwise from the right.

    Returns:
        float64 of whole numbers in [0, 255], of the same shape; border pixels go on outside.
    """
    taps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    down = np.ceil(taps * np.sin(np.deg2rad(angle)) - 0.5).astype(int)
    right = np.ceil(taps * np.cos(np.deg2rad(angle)) - 0.5).astype(int)
    reach = len(taps)
    sides = ((reach, reach), (reach, reach)) + ((0, 0),) * (image.ndim - 2)
    padded = np.pad(image.astype(np.float64), sides, mode="edge")
    height, width = image.shape[:2]
    total = np.zeros(image.shape)
    for weight, i, j in zip(weights / weights.sum(), down + reach, right + reach):
        total += weight * padded[i : i + height, j : j + width]
    return np.floor(total + 1e-6)


def zoom_centre(values: np.ndarray, factor: float) -> np.ndarray:
    """The centre of (H, W, C), enlarged to the same shape (linear interpolation)."""
    sides = values.shape[:2]
    inner = [int(np.ceil(side / factor)) for side in sides]
    centre = values[_middle(sides[0], inner[0]), _middle(sides[1], inner[1])]
    grown = ndimage.zoom(centre, (factor, factor, 1), order=1)
    return grown[_middle(grown.shape[0], sides[0]), _middle(grown.shape[1], sides[1])]


def _middle(length: int, part: int) -> slice:
    start = (length - part) // 2
    return slice(start, start + part)
