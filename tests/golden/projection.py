"""How a large array is kept in a small file: a strided sample, and projections on random signs.

A sample says where a difference is and how large. Projections see every element: the root mean
square of the projections of a difference is its norm, up to a share of about 1/sqrt(2·COUNT).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
COUNT = 64
STRIDE = 11  # shares no factor with the sides of an image: every row and column is met


def sample(array: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Every `stride`-th element of an array, in memory's order."""
    return np.ascontiguousarray(array).ravel()[::stride]


def project(name: str, array: np.ndarray) -> np.ndarray:
    """Sums of an array's elements under `COUNT` patterns of random signs, drawn from its name.

    Returns:
        float64 (COUNT,). The bits are PCG64's raw stream, which numpy keeps as it is.
    """
    values = np.ascontiguousarray(array, dtype=np.float64).ravel()
    bits = np.random.PCG64(zlib.crc32(name.encode()))
    words = -(-values.size // 64)
    sums = np.empty(COUNT)
    for index in range(COUNT):
        signs = np.unpackbits(bits.random_raw(words).astype("<u8").view(np.uint8))[: values.size]
        sums[index] = 2.0 * values[signs == 1].sum() - values.sum()
    return sums


def largest_difference(golden: Mapping[str, np.ndarray], name: str, array: np.ndarray) -> float:
    """Largest difference of an array from the published one, among the sampled elements."""
    kept = golden[f"sample/{name}"]
    taken = sample(array)
    assert taken.shape == kept.shape, f"{name}: {taken.shape} sampled, {kept.shape} published"
    return float(np.abs(taken - kept).max())


def relative_difference(golden: Mapping[str, np.ndarray], name: str, array: np.ndarray) -> float:
    """Norm of the difference from the published array over its norm, from all elements."""
    kept = golden[f"projection/{name}"]
    return float(np.linalg.norm(project(name, array) - kept) / np.linalg.norm(kept))


def load(name: str) -> dict[str, np.ndarray]:
    """The arrays of `tests/golden/NAME.npz`."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)
