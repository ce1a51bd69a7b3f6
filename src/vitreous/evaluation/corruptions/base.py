"""The table of corruptions and the one call that applies them.

Source: Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations; constants and order of random draws are those of the published code
(https://github.com/hendrycks/robustness, `imagenet_c/corruptions.py`). Lengths are in pixels of a
224 px image, as there, at any size of image: corrupt the model's view, not the file.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vitreous.errors import VitreousError
from vitreous.registry import Registry

SEVERITIES = (1, 2, 3, 4, 5)


class CorruptionFunction(Protocol):
    """One corruption: a function of the image, a severity and a source of randomness."""

    def __call__(
        self, image: np.ndarray, severity: int, generator: np.random.Generator
    ) -> np.ndarray:
        """Corrupt uint8 (H, W, 3); the result is (H, W, 3) within [0, 255], of any real type."""
        ...


CORRUPTIONS: Registry[CorruptionFunction] = Registry(
    "corruption", "vitreous.evaluation.corruptions"
)


def corrupt(
    image: np.ndarray, name: str, severity: int, generator: np.random.Generator
) -> np.ndarray:
    """Corrupt an image as ImageNet-C does.

    Args:
        image: RGB, uint8 (H, W, 3), of any size; it is not changed.
        name: In ImageNet-C's spelling, for example `gaussian_noise`; one of `CORRUPTIONS`.
        severity: 1 to 5.
        generator: Where randomness comes from. One seeded by the image's index gives every
            model the same image.

    Returns:
        uint8 (H, W, 3). Fractions are cut off, as in the published data.

    Raises:
        VitreousError: For an unknown name, another severity, or another kind of array.
    """
    if severity not in SEVERITIES:
        raise VitreousError(f"severity: expected 1 to 5, found {severity}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise VitreousError(
            f"{name}: expected an RGB image, uint8 (H, W, 3); found {image.dtype} {image.shape}"
        )
    return CORRUPTIONS[name](image, severity, generator).astype(np.uint8)


def unit(image: np.ndarray) -> np.ndarray:
    """The image as float64 in [0, 1]."""
    return image / 255.0


def eight_bit(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1], cut to that range, as float64 in [0, 255]."""
    return np.clip(values, 0, 1) * 255
