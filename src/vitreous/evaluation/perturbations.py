"""Changes of the model's view, for curves: turns by an angle, noise and blur by severity."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vitreous.data.rotation import rotate

# Severities 1 to 5 of ImageNet-C (Hendrycks and Dietterich 2019): standard deviations of the
# noise in units of [0, 1], and of the blur in pixels of a 224 px picture.
NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Turn pictures about their centre.

    Quarter turns move pixels and change none; other angles interpolate (bilinear), and corners
    from outside become black.

    Attributes:
        angle: Degrees, counter-clockwise.
        disc: Black out everything outside the inscribed disc first, at every angle, so that
            corners tell nothing and angles are comparable.
    """

    angle: float = 90.0
    disc: bool = False

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """Turn (B, 3, H, W)."""
        if self.disc:
            images = images * _disc(images)
        return rotate(images, self.angle)

    def settings(self) -> dict[str, Any]:
        """What records say."""
        return {"angle": float(self.angle), **({"disc": True} if self.disc else {})}


def _disc(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    y = torch.linspace(-1, 1, height, device=images.device)[:, None]
    x = torch.linspace(-1, 1, width, device=images.device)[None]
    return ((x * x + y * y) <= 1).to(images.dtype)


@dataclasses.dataclass(frozen=True)
class Corruption:
    """Gaussian noise or blur, at the severities of ImageNet-C.

    It is applied to the model's view (not to the file), and noise follows from the picture's
    index, so that every model sees the same.

    Attributes:
        kind: `gaussian_noise` or `gaussian_blur`.
        severity: 1 to 5.
    """

    kind: Literal["gaussian_noise", "gaussian_blur"] = "gaussian_noise"
    severity: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.severity <= 5:
            raise ValueError(f"severity: expected 1 to 5, found {self.severity}")

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """Perturb (B, 3, H, W) in [0, 1]."""
        if self.kind == "gaussian_noise":
            noise = torch.stack([_noise(images.shape[1:], int(i)) for i in indices])
            scaled = NOISE[self.severity - 1] * noise.to(images.device, images.dtype)
            return (images + scaled).clamp(0, 1)
        sigma = BLUR[self.severity - 1] * images.shape[-1] / 224
        size = 2 * round(4 * sigma) + 1
        limit = min(images.shape[-2:]) - 1
        return F.gaussian_blur(images, [min(size, limit - 1 + limit % 2)] * 2, [sigma, sigma])

    def settings(self) -> dict[str, Any]:
        """What records say."""
        return {"corruption": self.kind, "severity": self.severity}


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
