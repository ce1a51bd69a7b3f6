"""Noise: independent in every pixel and channel."""

from __future__ import annotations

import numpy as np

from vitreous.evaluation.corruptions.base import CORRUPTIONS, eight_bit, unit

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation
SHOT = (60, 25, 12, 5, 3)  # photons at full brightness
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of values set to black or white
SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation as a share of the value


@CORRUPTIONS.register("gaussian_noise")
def gaussian_noise(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise."""
    return eight_bit(unit(image) + generator.normal(0, GAUSSIAN[severity - 1], image.shape))


@CORRUPTIONS.register("shot_noise")
def shot_noise(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Count photons: Poisson noise."""
    photons = SHOT[severity - 1]
    return eight_bit(generator.poisson(unit(image) * photons) / photons)


@CORRUPTIONS.register("impulse_noise")
def impulse_noise(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Set a share of the values to 0 or 255, as many to each."""
    hit = generator.random(image.shape) <= IMPULSE[severity - 1]
    salt = generator.random(image.shape) <= 0.5
    return np.where(hit, np.where(salt, 255, 0), image)


@CORRUPTIONS.register("speckle_noise")
def speckle_noise(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise in proportion to the value."""
    values = unit(image)
    return eight_bit(values + values * generator.normal(0, SPECKLE[severity - 1], image.shape))
