"""What a view is, and how several become one transform."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from vitreous.data.batch import as_floats
from vitreous.data.transforms.window import WindowTransform
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

    Where the first transform is `resize` or `random_resized_crop`, the image may be a reduced one
    (`vitreous.data.decoding`): the same box is shown.

    Args:
        transforms: The transforms, in order.
    """

    def __init__(self, transforms: Iterable[Transform]):
        steps = [t.transform() for t in transforms]
        first = steps[0] if steps else None
        self._window = first if isinstance(first, WindowTransform) else None
        rest = steps if self._window is None else steps[1:]
        self._rest = v2.Compose(rest) if rest else None

    def __call__(self, image: Image.Image, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms to an image and its mask (zeros where there is none), as floats."""
        moved, moved_mask = self.as_read(image, mask)
        return as_floats(moved), moved_mask

    def as_read(self, image: Image.Image, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms, and leave pixels the bytes that they are.

        Returns:
            The image (3, h, w) in bytes, or as floats in [0, 1] where a transform makes it such,
            and the mask (1, h, w) as floats, zeros where there is none.
        """
        if self._window is not None:
            moved, moved_mask = self._window.show(image, mask)
        else:
            given = torch.zeros(1, image.height, image.width) if mask is None else mask
            moved, moved_mask = v2.functional.to_image(image), tv_tensors.Mask(given)
        if self._rest is not None:
            moved, moved_mask = self._rest(moved, moved_mask)
        if moved.dtype != torch.uint8:
            moved = as_floats(moved)
        return moved.as_subclass(Tensor), moved_mask.as_subclass(Tensor).float()

    def reduction(self, width: int, height: int) -> int:
        """How far a JPEG may be reduced, by torch's generator as it is: it is left further on.

        Args:
            width: Of the image, in pixels.
            height: The same.
        """
        return 1 if self._window is None else self._window.reduction(width, height)
