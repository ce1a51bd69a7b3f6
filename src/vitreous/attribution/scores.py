"""How much of a relevance map lies on the object: each score is defined here once."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 15


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

    Examples:
        >>> maps = torch.tensor([[[[0.75, 0.25]]]])
        >>> foreground_share(maps, torch.tensor([[[[1.0, 0.0]]]])).tolist()
        [0.75]
    """
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    total = maps.sum((1, 2, 3))
    return (maps * masks).sum((1, 2, 3)) / total.masked_fill(total == 0, 1.0)


def pointing_hits(maps: Tensor, masks: Tensor, tolerance: int = TOLERANCE) -> Tensor:
    """Play the pointing game (Zhang et al. 2016): is the most relevant pixel on the foreground?

    As the published code of the game has it: the first of several maxima counts (so a constant
    map points at its first pixel), and foreground nearer than `tolerance` is a hit.

    Args:
        maps: (B, 1, H, W).
        masks: (B, 1, H, W), 1 = foreground.
        tolerance: In pixels of the maps; 0 asks for a hit of the foreground itself.

    Returns:
        (B,) float32, 1 where it hits and 0 where it does not.

    Examples:
        >>> maps = torch.tensor([[[[0.9, 0.1]]]])
        >>> pointing_hits(maps, torch.tensor([[[[0.0, 1.0]]]]), tolerance=0).tolist()
        [0.0]
    """
    height, width = maps.shape[-2:]
    flat = maps.flatten(1)
    # Which of equal values `argmax` returns is not defined, so that the first is asked for.
    places = torch.arange(flat.shape[1], device=flat.device)
    first = torch.where(flat == flat.amax(1, keepdim=True), places, flat.shape[1]).amin(1)
    rows = torch.arange(height, device=flat.device)[None, :, None]
    columns = torch.arange(width, device=flat.device)[None, None]
    down, across = rows - (first // width)[:, None, None], columns - (first % width)[:, None, None]
    distance = down**2 + across**2
    near = distance < tolerance**2 if tolerance else distance == 0
    return (near & (masks[:, 0] > 0.5)).flatten(1).any(1).float()
