"""Checks of what a user hands over: one clear line each, before any computation starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitreous.brain.backend import Array
from vitreous.errors import VitreousError

# Correlations multiply four such numbers, which must stay below float64's 1.8e308.
LARGEST = 1e75


def check_pair(features: Array, responses: Array) -> np.ndarray:
    """Check features (images × units) against responses (images × neuroids).

    Returns:
        The responses in float64.

    Raises:
        VitreousError: If the shapes do not match or the responses hold NaN or infinities.
    """
    responses = np.asarray(responses, dtype=np.float64)
    if np.ndim(features) != 2:
        raise VitreousError(f"features: expected images × units, found shape {features.shape}")
    if responses.ndim != 2:
        raise VitreousError(
            f"responses: expected images × neuroids, found shape {responses.shape}; average "
            "repetitions first"
        )
    if len(features) != len(responses):
        raise VitreousError(
            f"images and responses do not match: {len(features)} rows of features, "
            f"{len(responses)} rows of responses"
        )
    check_finite(responses, "responses", "neuroid")
    return responses


def check_finite(values: np.ndarray, name: str, column: str) -> None:
    """Refuse NaN, infinities and what statistics overflow at, naming the first such column."""
    bad = ~(np.abs(values) <= LARGEST)
    if bad.any():
        rows, columns = int(bad.any(axis=1).sum()), bad.any(axis=0)
        kind = f"beyond ±{LARGEST:g}" if np.isfinite(values).all() else "NaN or infinite"
        raise VitreousError(
            f"{name} hold {int(bad.sum())} values that are {kind}, in {rows} of "
            f"{len(values)} rows; the first {column} with one is number {int(columns.argmax())}: "
            "drop those rows or neuroids, or average over the trials that exist"
        )


def check_components(components: int, training: int, units: int | None = None) -> None:
    """Refuse more components than training images or units allow."""
    if components < 1:
        raise VitreousError(f"components: expected at least 1, found {components}")
    if training <= components:
        raise VitreousError(
            f"fewer stimuli than components: {training} training images for {components} "
            "components; use fewer components or more images"
        )
    if units is not None and units < components:
        raise VitreousError(
            f"fewer units than components: {units} units for {components} components; use fewer "
            "components or a larger layer"
        )


def check_unique(identifiers: Sequence[object] | np.ndarray, name: str = "stimulus_id") -> None:
    """Refuse identifiers that occur twice."""
    values, counts = np.unique(np.asarray(identifiers), return_counts=True)
    if (counts > 1).any():
        first = values[counts > 1][0]
        raise VitreousError(
            f"{int((counts > 1).sum())} values of {name} occur more than once, first '{first}': "
            "average repetitions, or give each image its own name"
        )
