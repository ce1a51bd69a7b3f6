"""Pictures with masks and no labels: for objectives that take the model's own prediction."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vitreous.data.images import list_images
from vitreous.data.items import FileDataset, Sample, Subset, readable
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.base import READERS, Split, split_by_class
from vitreous.data.readers.files import OnError, match_masks


@READERS.register("unlabelled")
@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """All pictures below a folder, with masks matched by relative stem; labels are -1.

    Attributes:
        images: The folder.
        masks: Folder with `a/b.png`, or `b.png`, for `images/a/b.jpg`.
        mask_format: How mask files are read.
        require_masks: Whether a picture without a mask is an error.
        validation_share: Share that validates.
        on_error: As in `folders`.
    """

    images: str
    masks: str
    mask_format: MaskFormat = "binary"
    require_masks: bool = True
    validation_share: float = 0.2
    on_error: OnError = "error"

    def load(self, seed: int) -> Split:
        """Find and split the pictures."""
        root = Path(self.images).expanduser()
        samples = [Sample(path, -1) for path in list_images(root)]
        samples = match_masks(samples, root, Path(self.masks).expanduser(), self.require_masks)
        items, bad = FileDataset(samples, self.mask_format), []
        if self.on_error == "skip":
            good, bad = readable(items)
            items = FileDataset([samples[i] for i in good.indices], self.mask_format)
        train, validation = split_by_class([0] * len(items), seed, None, self.validation_share)
        note = {"skipped": bad}
        return Split(Subset(items, train), Subset(items, validation), [], note)
