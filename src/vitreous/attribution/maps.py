"""From relevance of tokens to maps over the image."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vitreous.models.layout import Layout, Stream


def min_max(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each image's map to [0, 1].

    Args:
        maps: (B, 1, H, W).

    Returns:
        The scaled maps, and which images (B,) had a constant map (or one that is not finite);
        their maps are zeros.

    Examples:
        >>> import torch
        >>> scaled, constant = min_max(torch.tensor([[[[1.0, 2.0, 3.0]]]]))
        >>> scaled.tolist(), constant.tolist()
        ([[[[0.0, 0.5, 1.0]]]], [False])
    """
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    span = high - low
    constant = ~(span > 0)
    scaled = (maps - low) / span.masked_fill(constant, 1.0)
    return scaled.masked_fill(constant, 0.0), constant.flatten()


def stream_map(row: Tensor, stream: Stream, size: tuple[int, int]) -> Tensor:
    """Upsample the patch part of a row (B, tokens) to the image (B, 1, H, W), bilinearly."""
    patches = row[:, stream.prefix :].reshape(row.shape[0], 1, *stream.grid)
    covered = (round(size[0] * stream.cover[0]), round(size[1] * stream.cover[1]))
    upsampled = F.interpolate(patches, size=covered, mode="bilinear", align_corners=False)
    if covered == size:
        return upsampled
    top, left = (size[0] - covered[0]) // 2, (size[1] - covered[1]) // 2
    if not stream.centered:
        top = left = 0
    bottom, right = size[0] - covered[0] - top, size[1] - covered[1] - left
    return F.pad(upsampled, (left, right, top, bottom))


def combine_streams(rows: list[Tensor], layout: Layout, size: tuple[int, int]) -> Tensor:
    """Sum the maps of all streams (B, 1, H, W), not yet scaled."""
    maps = [
        stream_map(row, stream, size) for row, stream in zip(rows, layout.streams) if stream.grid[0]
    ]
    total = maps[0]
    for layer in maps[1:]:
        total = total + layer
    return total
