"""The published readout of behaviour: standardised features, multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitreous.errors import VitreousError

PENALTY = 1e-3


def readout_probabilities(
    fitting: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    features: np.ndarray,
    penalty: float = PENALTY,
) -> tuple[np.ndarray, list[str]]:
    """Fit the readout on labelled images and apply it to others.

    StandardScaler, then multinomial logistic regression with C = 1e-3 (Brain-Score's
    `ProbabilitiesMapping`).

    Args:
        fitting: images × units of the fitting images.
        labels: Object of each of them.
        features: images × units of the test images.
        penalty: C of the logistic regression.

    Returns:
        Probabilities (images × choices) and the names of the choices, sorted.

    Raises:
        VitreousError: If features and labels do not match, or there is one object only.

    Examples:
        >>> features = np.array([[0.0], [1.0], [10.0], [11.0]])
        >>> labels = ["bear", "bear", "dog", "dog"]
        >>> values, choices = readout_probabilities(features, labels, np.array([[0.0], [12.0]]))
        >>> choices, values.argmax(1).tolist()
        (['bear', 'dog'], [0, 1])
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    if len(fitting) != len(codes) or fitting.shape[1:] != features.shape[1:]:
        raise VitreousError(
            f"the readout does not fit: {len(fitting)} images with {len(codes)} labels, and "
            f"{fitting.shape[1:]} against {features.shape[1:]} units"
        )
    if len(names) < 2:
        raise VitreousError(f"the readout needs at least two objects, found {names.tolist()}")
    scaler = StandardScaler().fit(np.asarray(fitting, dtype=np.float64))
    model: Any = LogisticRegression(solver="newton-cg", C=penalty)
    model.fit(scaler.transform(np.asarray(fitting, dtype=np.float64)), codes)
    scaled = scaler.transform(np.asarray(features, dtype=np.float64))
    return model.predict_proba(scaled), names.tolist()
