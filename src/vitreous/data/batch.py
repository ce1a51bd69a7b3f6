"""A batch: images with what is known of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F


@dataclasses.dataclass
class Batch:
    """Images with what is known of them, all on one device.

    Attributes:
        images: (B, 3, H, W) in [0, 1]; as they are read, before `to`, in bytes.
        labels: (B,) int64.
        masks: (B, 1, H, W) in [0, 1], 1 = foreground; zeros in rows without a mask. As they are
            read bool, if they are of 0 and 1.
        has_mask: (B,) bool: which rows have a mask.
        indices: (B,) int64 place of each image in its data set.
        targets: (B, C) share of each class where images are mixed; None where they are not.
        groups: (B,) int64 group of each image, -1 where unknown; None where nobody asks.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    has_mask: Tensor
    indices: Tensor
    targets: Tensor | None = None
    groups: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Copy to a device, where images and masks become floats."""
        moved = self._each(lambda values: values.to(device))
        floats = {"images": as_floats(moved.images), "masks": as_floats(moved.masks)}
        return dataclasses.replace(moved, **floats)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, start: int, stop: int) -> Batch:
        """Cut out some rows."""
        return self._each(lambda values: values[start:stop])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        present = {name: value for name, value in vars(self).items() if value is not None}
        return Batch(**{name: change(value) for name, value in present.items()})


def as_floats(values: Tensor) -> Tensor:
    """Bytes or bool as floats in [0, 1], on their device; floats as they are."""
    return F.to_dtype(values, torch.float32, scale=True)
