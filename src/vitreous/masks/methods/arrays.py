"""NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from vitreous.data.npy import map_array
from vitreous.errors import VitreousError
from vitreous.masks.base import (
    MASK_METHODS,
    Found,
    MaskError,
    MaskItem,
    check_size,
    file_items,
    find_each,
    require_size,
)
from vitreous.ranges import FINITE


@MASK_METHODS.register("numpy")
@dataclasses.dataclass(frozen=True)
class Arrays:
    """One `.npy` file an image; (H, W), (1, H, W) or (H, W, 1), of any number type.

    Attributes:
        masks: Folder of the files.
        threshold: Foreground is above it; where not given: half of what the type (0/1, 0…255)
            or floats in [0, 1] can hold.
    """

    masks: Path
    threshold: Annotated[float, FINITE] | None = None

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image, or for each file where there is no folder of images."""
        return file_items(self.masks, images, (".npy",), "NumPy arrays")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Read them."""
        return find_each(items, self._one)

    def _one(self, item: MaskItem) -> Found:
        mask = self._read(item.source)
        check_size(mask, item)
        return Found(mask)

    def _read(self, path: Path) -> np.ndarray:
        try:
            array = map_array(path)
        except VitreousError as error:
            raise MaskError(str(error)) from error
        require_size(array.size, path)
        if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
            array = array[0] if array.shape[0] == 1 else array[..., 0]
        if array.ndim != 2 or array.size == 0:
            raise MaskError(f"{path}: expected numbers (H, W), found {array.dtype} {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise MaskError(f"{path} holds numbers that are not finite")
        return array > (self._half(array) if self.threshold is None else self.threshold)

    def _half(self, array: np.ndarray) -> float:
        top = float(array.max())
        if top <= 1:
            return 0.5 if array.dtype.kind == "f" else 0
        if top <= 255:
            return 127.5
        raise MaskError(
            f"values up to {top:.15g} are neither 0…1 nor 0…255; say which are foreground: "
            "--threshold"
        )
