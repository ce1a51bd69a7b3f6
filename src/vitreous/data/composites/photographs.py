"""Cut-outs made of photographs and masks."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from vitreous.data.composites.compositing import box_of
from vitreous.data.dataset import Dataset
from vitreous.errors import ImageError


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoCutout:
    """What the mask of a photograph covers.

    Attributes:
        dataset: Photographs with masks.
        index: Which of them.
    """

    dataset: Dataset
    index: int

    @property
    def label(self) -> int:
        """Class of the photograph."""
        return self.dataset.label(self.index)

    @property
    def name(self) -> str:
        """Name of the photograph."""
        return self.dataset.name(self.index)

    def stamp(self) -> tuple[int, ...]:
        """What changes when the photograph or its mask does."""
        masks = self.dataset.masks
        own = self.dataset.images.stamp(self.index)
        return own if masks is None else (*own, *masks.stamp(self.index))

    def open(self) -> Image.Image:
        """Read it as RGBA, cropped to the box of its mask.

        Raises:
            ImageError: If photograph or mask cannot be read, or it has no mask.
        """
        item = self.dataset[self.index]
        if item.mask is None:
            raise ImageError(f"{item.name} has no mask; expected one, to cut the object out")
        covered = (item.mask[0] >= 0.5).numpy()
        if not covered.any():
            raise ImageError(f"the mask of {item.name} has no foreground")
        cut = item.image.convert("RGBA")
        cut.putalpha(Image.fromarray((covered * 255).astype(np.uint8)))
        return cut.crop(box_of(covered))


def photo_cutouts(dataset: Dataset) -> list[PhotoCutout]:
    """The cut-outs of the photographs that have a mask, in their order."""
    masks = dataset.masks
    if masks is None:
        return []
    return [PhotoCutout(dataset, index) for index in range(len(dataset)) if masks.has(index)]
