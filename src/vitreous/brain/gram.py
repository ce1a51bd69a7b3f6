"""One Gram matrix a layer, streamed in float64 blocks; all regressions here need nothing else.

With centred but unscaled features, PLS, ridge and CKA depend on the features X (images × units)
only through K = X Xᵀ. A layer of 100,000 units thus costs one pass over it and images² memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator

import numpy as np

from vitreous.brain.backend import Array
from vitreous.errors import VitreousError, require

BLOCK_BYTES = 64 * 2**20


def gram(features: np.ndarray, *, centre: bool = True, block: int | None = None) -> np.ndarray:
    """Compute the Gram matrix X Xᵀ of features, block by block of units.

    Args:
        features: images × units, any float or integer type; a memory map is read in pieces.
        centre: Subtract each unit's mean over the images first. Regressions centre anew in
            each split, so this changes no score and keeps the numbers small.
        block: Units in a block; by default what makes 64 MiB in float64.

    Returns:
        images × images in float64.

    Raises:
        VitreousError: If the features hold NaN or infinities.

    Examples:
        >>> gram(np.array([[1.0, 2.0], [3.0, 4.0]]), centre=False).tolist()
        [[5.0, 11.0], [11.0, 25.0]]
    """
    n, units = features.shape
    width = block or max(1, BLOCK_BYTES // (8 * max(n, 1)))
    total = np.zeros((n, n))
    product = np.empty((n, n))
    for start in range(0, units, width):
        piece = np.asarray(features[:, start : start + width], dtype=np.float64)
        if centre:
            piece = piece - piece.mean(axis=0)
        # NumPy computes A Aᵀ of one array by the symmetric product: half the work.
        total += np.matmul(piece, piece.T, out=product)
    bad = ~np.isfinite(np.diagonal(total))
    if bad.any():
        raise VitreousError(
            f"features hold NaN or infinities for {int(bad.sum())} of {n} images, first number "
            f"{int(bad.argmax())}; half-precision overflow is the usual cause"
        )
    return total


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What regression needs of a layer: its Gram matrix, or a factor of it where that is smaller.

    Attributes:
        matrix: The Gram matrix (images × images), or centred features (images × units).
        factored: Whether `matrix` is the features.

    Examples:
        >>> kernel = Kernel.of(np.random.default_rng(0).normal(size=(4, 100)))
        >>> kernel.matrix.shape, kernel.factored
        ((4, 4), False)
    """

    matrix: Array
    factored: bool = False

    @classmethod
    def of(cls, features: np.ndarray) -> Kernel:
        """Take the features themselves for narrow layers, their Gram matrix for the others."""
        n, units = features.shape
        if units > n // 2:
            return cls(gram(features))
        matrix = np.asarray(features, dtype=np.float64)
        matrix = matrix - matrix.mean(axis=0)
        if not np.isfinite(matrix).all():
            gram(features)  # says which images
        return cls(matrix, factored=True)

    def full(self) -> np.ndarray:
        """The Gram matrix."""
        return self.matrix @ self.matrix.T if self.factored else self.matrix

    def times(self, vectors: Array) -> Array:
        """K V."""
        if self.factored:
            return self.matrix @ (self.matrix.mT @ vectors)
        return self.matrix @ vectors

    def block(self, rows: Array) -> Array:
        """The rows × rows block of K."""
        if self.factored:
            return self.matrix[rows] @ self.matrix[rows].mT
        return self.matrix[rows][:, rows]

    def trace(self) -> float:
        """The sum of K's diagonal."""
        if self.factored:
            return float((self.matrix * self.matrix).sum())
        return float(self.matrix.diagonal().sum())


def centered(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The block of a Gram matrix as if features were centred on the mean of `columns`' images.

    Args:
        matrix: images × images.
        rows: Indices of the images on the rows.
        columns: Indices of the training images, whose mean is subtracted.

    Returns:
        rows × columns.
    """
    block = matrix[np.ix_(rows, columns)]
    column_mean = matrix[np.ix_(columns, columns)].mean(axis=0)
    block -= column_mean[None, :]
    block -= matrix[np.ix_(rows, columns)].mean(axis=1, keepdims=True)
    block += column_mean.mean()
    return block


@contextlib.contextmanager
def blas_threads(limit: int | None) -> Generator[None]:
    """Limit the threads of the BLAS inside the block; None leaves them as they are."""
    if limit is None:
        yield
        return
    threadpoolctl = require("threadpoolctl", "brain")
    with threadpoolctl.threadpool_limits(limits=limit, user_api="blas"):
        yield
