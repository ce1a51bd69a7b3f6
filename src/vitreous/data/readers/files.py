"""Labelled images in class folders, a CSV file or tar shards, with masks beside them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from vitreous.data.dataset import Dataset
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.base import READERS, OnError, Split, readable, split_by_class
from vitreous.data.readers.paths import read_dataset
from vitreous.errors import VitreousError
from vitreous.ranges import PART, at_least


@READERS.register("folders")
@dataclasses.dataclass(frozen=True)
class Folders:
    """A folder a class (`images/CLASS/a.jpg`), a CSV file or tar shards; masks matched by stem.

    Attributes:
        images: Folder of class folders, a CSV file with columns `path,label[,mask][,group]`
            (paths in it are relative to the file), or tar shards.
        masks: Folder with `CLASS/a.png`, or `a.png`, for `images/CLASS/a.jpg`.
        mask_format: `binary`, or `imagenet_s` (class = R + 256·G).
        require_masks: Whether an image without a mask is an error; else it stays, unmasked.
        validation_images: A second folder, CSV or shards to validate on; else a share of each
            class.
        validation_masks: Its masks.
        validation_share: Share of each class that validates where there is no second folder.
        per_class: How many images of each class train; all where not given.
        class_list: File with one class folder name a line: gives the labels their order.
        on_error: `error` stops at the first image that cannot be read; `skip` tries all of them
            first and leaves out those that fail, named and counted in the run.
    """

    images: str
    masks: str | None = None
    mask_format: MaskFormat = "binary"
    require_masks: bool = True
    validation_images: str | None = None
    validation_masks: str | None = None
    validation_share: Annotated[float, PART] = 0.1
    per_class: Annotated[int, at_least(1)] | None = None
    class_list: str | None = None
    on_error: OnError = "error"

    def load(self, seed: int) -> Split:
        """Find and split the images.

        Raises:
            VitreousError: If a folder, class or mask is missing; ImageError for bad images.
        """
        names = read_class_list(self.class_list) if self.class_list else None
        whole, bad = self._read(self.images, self.masks, names)
        if self.validation_images is None:
            share = self.validation_share
            chosen, kept = split_by_class(whole.labels, seed, self.per_class, share)
            return Split(whole.select(chosen), whole.select(kept), {"skipped": bad})
        classes = list(whole.class_names) or None
        held, bad_held = self._read(self.validation_images, self.validation_masks, classes)
        if self.per_class is not None:
            chosen, _ = split_by_class(whole.labels, seed, self.per_class, 0.0)
            whole = whole.select(chosen)
        return Split(whole, held, {"skipped": bad + bad_held})

    def _read(
        self, images: str, masks: str | None, classes: list[str] | None
    ) -> tuple[Dataset, list[str]]:
        dataset = read_dataset(
            images,
            classes,
            masks=masks,
            mask_format=self.mask_format,
            require_masks=self.require_masks,
            labelled=True,
        )
        return readable(dataset, self.on_error)


def read_class_list(path: str) -> list[str]:
    """Read one class name a line."""
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VitreousError(f"cannot read the class list {path}: {reason}") from error
    return [line for line in lines if line.strip()]
