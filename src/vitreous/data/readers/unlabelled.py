"""Images with masks and no labels: for objectives that take the model's own prediction."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np

from vitreous.data.dataset import UNKNOWN, Dataset
from vitreous.data.listing import EXTENSIONS, list_files
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.base import READERS, OnError, Split, readable, split_by_class
from vitreous.data.readers.masks import with_masks
from vitreous.data.stores import FileImages
from vitreous.errors import ImageError
from vitreous.ranges import PART


@READERS.register("unlabelled")
@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """All images below a folder, with masks matched by relative stem; labels are -1.

    Attributes:
        images: The folder.
        masks: Folder with `a/b.png`, or `b.png`, for `images/a/b.jpg`.
        mask_format: How mask files are read.
        require_masks: Whether an image without a mask is an error.
        validation_share: Share that validates.
        on_error: As in `folders`.
    """

    images: str
    masks: str
    mask_format: MaskFormat = "binary"
    require_masks: bool = True
    validation_share: Annotated[float, PART] = 0.2
    on_error: OnError = "error"

    def load(self, seed: int) -> Split:
        """Find and split the images."""
        dataset = unlabelled(Path(self.images).expanduser())
        masks = Path(self.masks).expanduser()
        masked = with_masks(dataset, masks, self.mask_format, require=self.require_masks)
        whole, bad = readable(masked, self.on_error)
        train, validation = split_by_class(whole.labels, seed, None, self.validation_share)
        return Split(whole.select(train), whole.select(validation), {"skipped": bad})


def unlabelled(root: Path) -> Dataset:
    """All images below a folder, sorted, with labels of -1.

    Raises:
        ImageError: If the folder is missing or holds none.
    """
    if not root.is_dir():
        raise ImageError(f"no folder at {root}")
    listing = list_files(root)
    if not listing.images:
        raise ImageError(f"{root} holds no pictures ({', '.join(sorted(EXTENSIONS))})")
    labels = np.full(len(listing.images), UNKNOWN, dtype=np.int64)
    return Dataset(FileImages(root, listing.images), labels, left_out=listing.left_out())
