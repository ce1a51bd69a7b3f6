"""Principal components of activations, as Brain-Score reduces features for the choice of layers."""

from __future__ import annotations

import dataclasses

import numpy as np

from vitreous.brain.gram import gram
from vitreous.errors import VitreousError

WIDTH = 4096


@dataclasses.dataclass(frozen=True)
class Components:
    """Principal components, stored by the images that they were fitted on.

    Attributes:
        mean: Mean of each unit over the fitting images.
        axes: units × components, orthonormal.
    """

    mean: np.ndarray
    axes: np.ndarray

    def project(self, features: np.ndarray) -> np.ndarray:
        """Reduce features (images × units) to images × components, in float64."""
        total = np.zeros((len(features), self.axes.shape[1]))
        for start in range(0, features.shape[1], WIDTH):
            piece = slice(start, start + WIDTH)
            values = np.asarray(features[:, piece], dtype=np.float64) - self.mean[piece]
            total += values @ self.axes[piece]
        return total


def fit_components(features: np.ndarray, components: int = 1000) -> Components | None:
    """Fit principal components on other images (Brain-Score: 1000 of ImageNet's validation set).

    Args:
        features: images × units of the fitting images.
        components: How many; fewer where the images have fewer dimensions.

    Returns:
        The components, or None where the layer has no more units than that: it stays as it is.

    Raises:
        VitreousError: For fewer than two fitting images.
    """
    n, units = features.shape
    if n < 2:
        raise VitreousError(f"principal components need at least 2 images, found {n}")
    if units <= components:
        return None
    matrix = gram(features)
    values, vectors = np.linalg.eigh(matrix)
    order = np.argsort(values)[::-1][: min(components, n - 1)]
    kept = order[values[order] > values[order[0]] * n * np.finfo(np.float64).eps]
    scaled = vectors[:, kept] / np.sqrt(values[kept])
    mean, axes = np.empty(units), np.empty((units, len(kept)))
    for start in range(0, units, WIDTH):
        piece = np.asarray(features[:, start : start + WIDTH], dtype=np.float64)
        mean[start : start + WIDTH] = piece.mean(axis=0)
        axes[start : start + WIDTH] = (piece - piece.mean(axis=0)).T @ scaled
    return Components(mean, axes)
