"""Turning images in memory: by quarter turns, exactly, and by any angle."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F


def quarter_turns(images: Tensor, turns: int) -> Tensor:
    """Turn images (…, H, W) counter-clockwise by quarter turns; pixels move and none changes.

    Args:
        images: Of any type; height and width change places where the number of turns is odd.
        turns: How many; negative ones turn back.
    """
    return torch.rot90(images, turns, (-2, -1))


def turn_each(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image by its own number of quarter turns, exactly.

    Args:
        images: (B, C, H, W); square where any number of turns is odd.
        turns: (B,) integers: quarter turns counter-clockwise; negative ones turn back.
    """
    return torch.stack([quarter_turns(i, k) for i, k in zip(images, turns.tolist())])


def rotate(images: Tensor, angle: float) -> Tensor:
    """Rotate images (…, C, H, W) about their centre on the same canvas.

    Quarter turns are exact (of square images; half turns of all); other angles interpolate
    bilinearly, and corners from outside become 0.

    Args:
        images: Float.
        angle: Degrees, counter-clockwise.
    """
    turns, rest = divmod(angle % 360, 90)
    if rest == 0 and (turns % 2 == 0 or images.shape[-1] == images.shape[-2]):
        return quarter_turns(images, int(turns))
    return F.rotate(images, angle, InterpolationMode.BILINEAR)
