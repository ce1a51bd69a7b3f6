"""A batch: pictures with what is known of them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass
class Batch:
    """Pictures with what is known of them, all on one device.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        labels: (B,) int64.
        masks: (B, 1, H, W) in [0, 1], 1 = foreground; zeros in rows without a mask.
        has_mask: (B,) bool: which rows have a mask.
        indices: (B,) int64 place of each picture in its data set.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    has_mask: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> Batch:
        """Copy to a device."""
        return Batch(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, start: int, stop: int) -> Batch:
        """Cut out some rows."""
        return Batch(*(getattr(self, f.name)[start:stop] for f in dataclasses.fields(self)))
