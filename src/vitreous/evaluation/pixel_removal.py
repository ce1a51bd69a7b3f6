"""Perturbation test: remove the most, or the least, relevant pixels and watch the accuracy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitreous.evaluation.metrics import trapezoid_area
from vitreous.models import Classifier

FRACTIONS = tuple(i / 10 for i in range(1, 10))


def removal_hits(
    classifier: Classifier,
    images: Tensor,
    relevance: Tensor,
    targets: Tensor,
    fractions: tuple[float, ...] = FRACTIONS,
) -> Tensor:
    """Remove pixels by their relevance and see which images are still right.

    Pixels are set to 0 before the normalisation (Chefer et al. 2021). Of equally relevant pixels
    those that come first go first, so that exactly the fraction goes.

    Args:
        classifier: The model, in evaluation mode.
        images: (B, 3, H, W) in [0, 1].
        relevance: (B, 1, H, W).
        targets: (B,) the class that is right.
        fractions: Shares of the pixels, between 0 and 1.

    Returns:
        (B, 2, 1 + fractions) bool: most relevant first, and least relevant first; at 0 nothing
        is removed.
    """

    def right(removed: Tensor) -> Tensor:
        with torch.inference_mode():
            return classifier(removed).argmax(1) == targets

    whole = right(images)
    curves = []
    for highest in (True, False):
        order = relevance.flatten(1).sort(dim=1, descending=highest, stable=True).indices
        rest = [right(remove_pixels(images, order, f)) for f in fractions]
        curves.append(torch.stack([whole, *rest], 1))
    return torch.stack(curves, 1)


def removal_area(accuracy: np.ndarray, fractions: tuple[float, ...] = FRACTIONS) -> float:
    """Area under a removal curve, in percent.

    Args:
        accuracy: (1 + fractions,), the first with nothing removed.
        fractions: Shares that were removed.
    """
    return trapezoid_area(np.array([0.0, *fractions]), accuracy)


def remove_pixels(images: Tensor, order: Tensor, fraction: float) -> Tensor:
    """Set the first `fraction` of pixels, in the given order (B, H·W), to 0 in all channels."""
    flat = images.flatten(2).clone()
    gone = order[:, : int(fraction * order.shape[1])]
    flat.scatter_(2, gone[:, None].expand(-1, flat.shape[1], -1), 0.0)
    return flat.view_as(images)
