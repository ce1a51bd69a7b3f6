"""How much of a relevance map lies on the object: each score is defined here once."""

from __future__ import annotations

import torch
from torch import Tensor


def foreground_share(maps: Tensor, masks: Tensor) -> Tensor:
    """Compute which share of each map's relevance lies on the foreground.

    A map without any relevance puts none on the object: its share is 0, never NaN, so that a mean
    over a set neither leaves it out nor is lost to it. How many maps are constant is reported
    beside the mean.

    Args:
        maps: (B, 1, H, W), not negative.
        masks: (B, 1, H, W) in [0, 1], 1 = foreground.

    Returns:
        (B,) float in [0, 1].
    """
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    total = maps.sum((1, 2, 3))
    return (maps * masks).sum((1, 2, 3)) / total.masked_fill(total == 0, 1.0)


def pointing_hits(maps: Tensor, masks: Tensor) -> Tensor:
    """Play the pointing game (Zhang et al. 2016): is the most relevant pixel on the foreground?

    Args:
        maps: (B, 1, H, W).
        masks: (B, 1, H, W), 1 = foreground.

    Returns:
        (B,) in [0, 1]: where several pixels share the maximum, how many of them hit.
    """
    flat, mask = maps.flatten(1), masks.flatten(1) > 0.5
    top = flat == flat.amax(1, keepdim=True)
    return (top & mask).sum(1).double() / top.sum(1)
