"""Occlusion: what the score loses when a part of the image is covered. Slow: a reference."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from vitreous.attribution.base import METHODS, RecordedPass

GREY = 0.5
CELLS = 14


class Occlusion:
    """Occlusion (Zeiler & Fergus 2014, section 4): grey squares, one after the other.

    `score(x) - score(x with a grey square)` at the pixels of the square, for each of 14 × 14.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"model"})

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        images = recorded.images.detach()
        maps = torch.zeros_like(images[:, :1])
        height, width = (-(-side // CELLS) for side in recorded.size)
        with torch.no_grad():
            whole = recorded.scores(images)
            for top in range(0, recorded.size[0], height):
                for left in range(0, recorded.size[1], width):
                    square = (..., slice(top, top + height), slice(left, left + width))
                    covered = images.clone()
                    covered[square] = GREY
                    maps[square] = (whole - recorded.scores(covered))[:, None, None, None]
        return maps


METHODS.register("occlusion")(Occlusion())
