"""Alpha channels of cut-outs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from vitreous.data.images import image_errors
from vitreous.masks.base import MASK_METHODS, Found, MaskError, MaskItem, find_each, image_items
from vitreous.ranges import above


@MASK_METHODS.register("alpha")
@dataclasses.dataclass(frozen=True)
class Alpha:
    """What is opaque in an image with transparency is its foreground.

    Attributes:
        threshold: Least opacity of the foreground, in (0, 1].
    """

    threshold: Annotated[float, above(0, at_most=1)] = 0.5

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image."""
        return image_items(images, "alpha")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Read them."""
        return find_each(items, self._one)

    def _one(self, item: MaskItem) -> Found:
        path = item.source
        with image_errors(path, MaskError), Image.open(path) as opened:
            opened.load()
            if "A" not in opened.getbands() and "transparency" not in opened.info:
                raise MaskError(f"{path} has no alpha channel")
            alpha = np.asarray(opened.convert("RGBA").getchannel("A"))
        return Found(alpha >= self.threshold * 255)
