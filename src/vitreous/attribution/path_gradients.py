"""Gradients over many inputs: integrated gradients, and SmoothGrad."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vitreous.attribution.base import METHODS, RecordedPass
from vitreous.models.gradients import scaled_gradients

MODEL = frozenset({"model"})


def gradient_at(recorded: RecordedPass, images: Tensor) -> Tensor:
    """Gradient (B, 3, H, W) of the target's score at images in place of those that went in."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = scaled_gradients(recorded.scores(images).sum(), [images])
    return gradient


class IntegratedGradients:
    """Integrated gradients (Sundararajan et al. 2017, eq. 1), from a black image.

    `(x - x') ∘ ∫₀¹ ∂score(x' + α (x - x'))/∂x dα`, by Gauss and Legendre's quadrature; a map is
    the sum over channels of the absolute values.
    """

    needs: ClassVar[frozenset[str]] = MODEL
    steps: ClassVar[int] = 32

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        return self.attributions(recorded).abs().sum(1, keepdim=True)

    def attributions(self, recorded: RecordedPass) -> Tensor:
        """Signed attribution (B, 3, H, W); its sum is the score less that of a black image."""
        images = recorded.images.detach()
        places, weights = np.polynomial.legendre.leggauss(self.steps)
        total = torch.zeros_like(images)
        for place, weight in zip((places + 1) / 2, weights / 2):
            total += float(weight) * gradient_at(recorded, float(place) * images)
        return images * total


class SmoothGrad:
    """SmoothGrad (Smilkov et al. 2017): the mean gradient over noisy copies of the image.

    `1/n Σ ∂score/∂x (x + N(0, σ²))` with σ = 0.15 of the image's range; a map is the largest
    absolute value over channels. The noise is the same in each call.
    """

    needs: ClassVar[frozenset[str]] = MODEL
    samples: ClassVar[int] = 32
    noise: ClassVar[float] = 0.15

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        images = recorded.images.detach()
        low, high = images.amin((1, 2, 3), True), images.amax((1, 2, 3), True)
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros_like(images)
        for _ in range(self.samples):
            noise = torch.randn(images.shape[1:], generator=generator).to(images)
            total += gradient_at(recorded, images + self.noise * (high - low) * noise)
        return (total / self.samples).abs().amax(1, keepdim=True)


METHODS.register("integrated_gradients")(IntegratedGradients())
METHODS.register("smooth_grad")(SmoothGrad())
