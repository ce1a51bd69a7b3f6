"""Ridge regression of every split from the Gram matrix: fixed, chosen, or no penalty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitreous.brain.gram import Kernel, centered
from vitreous.brain.splits import Split
from vitreous.errors import VitreousError, require

# Brain-Score's grid for the chosen penalty: 99 values from 0.01 to 1e7.
PENALTIES: tuple[float, ...] = (
    0.01,
    0.1,
    0.5,
    1.0,
    *np.linspace(1e1, 1e2, 4, endpoint=False).tolist(),
    *(
        value
        for decade in (1e2, 1e3, 1e4, 1e5)
        for value in np.linspace(decade, 10 * decade, 18, endpoint=False).tolist()
    ),
    *np.linspace(1e6, 1e7, 19).tolist(),
)


def ridge_predictions(
    kernel: Kernel | np.ndarray,
    responses: np.ndarray,
    splits: Sequence[Split],
    penalty: float | Sequence[float] = 1.0,
) -> tuple[list[np.ndarray], list[float]]:
    """Predict the held-out responses of every split by dual ridge regression with an intercept.

    Args:
        kernel: The layer's `Kernel`, or its Gram matrix.
        responses: images × neuroids, finite.
        splits: (train, test) indices.
        penalty: α of |Y − XB|² + α|B|²; 0 is least squares (of smallest norm where there are more
            units than images). Several values: the one with the smallest leave-one-out error on
            the training images, one for all neuroids, is chosen anew in each split.

    Returns:
        Predictions (held-out images × neuroids) and the penalty used, for each split.

    Raises:
        VitreousError: For a negative or missing penalty, or 0 among several.
    """
    matrix = kernel.full() if isinstance(kernel, Kernel) else kernel
    grid = [float(p) for p in ([penalty] if isinstance(penalty, (int, float)) else penalty)]
    if not grid or min(grid) < 0 or (len(grid) > 1 and min(grid) == 0):
        raise VitreousError(f"penalty: expected positive numbers, or 0 alone; found {penalty}")
    predictions, used = [], []
    for train, test in splits:
        inner = centered(matrix, train, train)
        mean = responses[train].mean(axis=0)
        targets = responses[train] - mean
        dual, chosen = _solve(inner, targets, grid)
        predictions.append(mean + centered(matrix, test, train) @ dual)
        used.append(chosen)
    return predictions, used


def _solve(inner: np.ndarray, targets: np.ndarray, grid: list[float]) -> tuple[np.ndarray, float]:
    """Dual coefficients (training images × neuroids) and the penalty."""
    linalg = require("scipy.linalg", "brain")
    if len(grid) == 1 and grid[0] > 0:
        inner.flat[:: len(inner) + 1] += grid[0]
        return linalg.solve(inner, targets, assume_a="pos", overwrite_a=True), grid[0]
    values, vectors = linalg.eigh(inner, overwrite_a=True, check_finite=False)
    kept = values > max(values[-1], 0) * len(values) * np.finfo(np.float64).eps
    values, vectors = values[kept], vectors[:, kept]
    rotated = vectors.T @ targets
    best = grid[0]
    if len(grid) > 1:
        errors = [_left_out(values, vectors, rotated, targets, p) for p in grid]
        best = grid[int(np.argmin(errors))]
    return vectors @ (rotated / (values + best)[:, None]), best


def _left_out(
    values: np.ndarray,
    vectors: np.ndarray,
    rotated: np.ndarray,
    targets: np.ndarray,
    penalty: float,
) -> float:
    """Mean squared leave-one-out error; the intercept is refitted too (its leverage is 1/n)."""
    shrink = values / (values + penalty)
    leverage = (vectors * vectors) @ shrink + 1.0 / len(targets)
    residual = targets - vectors @ (shrink[:, None] * rotated)
    room = np.maximum(1.0 - leverage, np.finfo(np.float64).eps)
    return float(np.mean((residual / room[:, None]) ** 2))
