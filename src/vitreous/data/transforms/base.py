"""What a view is, and how several become one transform."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from vitreous.registry import Registry


class Transform(Protocol):
    """Frozen settings that build a torchvision v2 transform.

    The transform gets an image (PIL, or `tv_tensors.Image`) and a `tv_tensors.Mask` together and
    must move both alike. Its randomness comes from torch's global generator, which the data set
    seeds for each image from (seed, epoch, index), so that it does not depend on workers.
    """

    def transform(self) -> v2.Transform:
        """Build the transform."""
        ...


TRANSFORMS: Registry[type[Transform]] = Registry("view", "vitreous.data.transforms")


class compose:
    """Turn transforms into one callable: PIL image and mask (1, H, W) → tensors in [0, 1].

    Args:
        transforms: The transforms, in order.
    """

    def __init__(self, transforms: Iterable[Transform]):
        self._transform = v2.Compose([t.transform() for t in transforms] or [v2.Identity()])

    def __call__(self, image: Image.Image, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms to an image and its mask (zeros where there is none)."""
        if mask is None:
            mask = torch.zeros(1, image.height, image.width)
        moved, moved_mask = self._transform(v2.functional.to_image(image), tv_tensors.Mask(mask))
        transformed = v2.functional.to_dtype(moved, torch.float32, scale=True)
        return transformed.as_subclass(Tensor), moved_mask.as_subclass(Tensor).float()
