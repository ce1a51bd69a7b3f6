"""How few pixels a map is about."""

from __future__ import annotations

import numpy as np


def gini(maps: np.ndarray) -> np.ndarray:
    """Sparseness (Chalasani et al. 2020, eq. 7): the Gini index of the map's values.

    `Σ_i (2 i - n - 1) v_i / (n Σ v)` of sorted values; 0 where all are equal.

    Args:
        maps: (B, H, W), not negative.

    Returns:
        (B,) in [0, 1]: high where few pixels have most of the relevance.
    """
    values = np.sort(maps.reshape(len(maps), -1).astype(np.float64) + 1e-7, axis=1)
    count = values.shape[1]
    places = 2 * np.arange(1, count + 1) - count - 1
    return (places * values).sum(1) / (count * values.sum(1))


def entropy(maps: np.ndarray) -> np.ndarray:
    """Complexity (Bhatt et al. 2020, definition 3): `-Σ p ln p`, p each pixel's share.

    Args:
        maps: (B, H, W), not negative.

    Returns:
        (B,), low where few pixels have most of the relevance; ln n of a map without any.
    """
    values = maps.reshape(len(maps), -1).astype(np.float64)
    total = values.sum(1, keepdims=True)
    shares = np.where(total > 0, values / np.where(total > 0, total, 1), 1 / values.shape[1])
    return -(shares * np.log(shares + 1e-12)).sum(1)
