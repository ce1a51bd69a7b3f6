"""Several stores as one, and a store under other names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from vitreous.data.dataset import Dataset, ImageStore, MaskStore


@dataclasses.dataclass(frozen=True, eq=False)
class NamedImages:
    """A store whose images have names of their own.

    Attributes:
        images: Where they are.
        names: What each is called.
    """

    images: ImageStore
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """The name of its own."""
        return self.names[index]

    def open(self, index: int) -> Image.Image:
        """Read one; raises `ImageError`."""
        return self.images.open(index)

    def stamp(self, index: int) -> tuple[int, ...]:
        """Its stamp."""
        return self.images.stamp(index)

    def content(self, index: int) -> bytes:
        """Its bytes; raises `ImageError`."""
        return self.images.content(index)


class JoinedImages:
    """Stores one after the other; the name of each part is put before its images' names.

    Args:
        parts: Name → store.
    """

    def __init__(self, parts: Sequence[tuple[str, ImageStore]]):
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(images) for _, images in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, index: int) -> str:
        """Name of the part and of the image in it."""
        part, inner = _find(self._starts, index)
        prefix, images = self.parts[part]
        return f"{prefix}/{images.name(inner)}"

    def open(self, index: int) -> Image.Image:
        """Read one; raises `ImageError`."""
        part, inner = _find(self._starts, index)
        return self.parts[part][1].open(inner)

    def stamp(self, index: int) -> tuple[int, ...]:
        """Its stamp in its part."""
        part, inner = _find(self._starts, index)
        return self.parts[part][1].stamp(inner)

    def content(self, index: int) -> bytes:
        """Its bytes; raises `ImageError`."""
        part, inner = _find(self._starts, index)
        return self.parts[part][1].content(inner)


class JoinedMasks:
    """Masks of stores one after the other.

    Args:
        parts: For each store how many images it has, and its masks, if it has any.
    """

    def __init__(self, parts: Sequence[tuple[int, MaskStore | None]]):
        self.parts = tuple(masks for _, masks in parts)
        self._starts = np.cumsum([0, *(count for count, _ in parts)])

    def has(self, index: int) -> bool:
        """Whether an image has a mask."""
        part, inner = _find(self._starts, index)
        masks = self.parts[part]
        return masks is not None and masks.has(inner)

    def open(self, index: int) -> Tensor | None:
        """Read a mask (1, H, W); None where there is none; raises `ImageError`."""
        part, inner = _find(self._starts, index)
        masks = self.parts[part]
        return None if masks is None else masks.open(inner)

    def stamp(self, index: int) -> tuple[int, ...]:
        """Its stamp in its part; empty where there is none."""
        part, inner = _find(self._starts, index)
        masks = self.parts[part]
        return () if masks is None else masks.stamp(inner)

    def content(self, index: int) -> bytes:
        """Its bytes; empty where there is none; raises `ImageError`."""
        part, inner = _find(self._starts, index)
        masks = self.parts[part]
        return b"" if masks is None else masks.content(inner)


def _find(starts: np.ndarray, index: int) -> tuple[int, int]:
    if not 0 <= index < starts[-1]:
        raise IndexError(f"no image {index} of {starts[-1]}")
    part = int(np.searchsorted(starts, index, side="right")) - 1
    return part, index - int(starts[part])


def concatenate(parts: dict[str, Dataset], class_names: Sequence[str] = ()) -> Dataset:
    """Lay datasets one after the other; groups are left out.

    Args:
        parts: Name → dataset; labels must mean the same in all of them.
        class_names: Names of the classes.
    """
    datasets = list(parts.values())
    masks = None
    if any(d.masks is not None for d in datasets):
        masks = JoinedMasks([(len(d), d.masks) for d in datasets])
    return Dataset(
        JoinedImages([(name, d.images) for name, d in parts.items()]),
        np.concatenate([d.labels for d in datasets]),
        tuple(class_names),
        masks,
        left_out=tuple(entry for d in datasets for entry in d.left_out),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class FirstMasks:
    """The first store that has an image's mask.

    Attributes:
        stores: Numbered alike.
    """

    stores: Sequence[MaskStore]

    def has(self, index: int) -> bool:
        """Whether any of them has it."""
        return self._of(index) is not None

    def open(self, index: int) -> Tensor | None:
        """Read a mask (1, H, W); None where there is none; raises `ImageError`."""
        store = self._of(index)
        return None if store is None else store.open(index)

    def stamp(self, index: int) -> tuple[int, ...]:
        """Its stamp; empty where there is none."""
        store = self._of(index)
        return () if store is None else store.stamp(index)

    def content(self, index: int) -> bytes:
        """Its bytes; empty where there is none; raises `ImageError`."""
        store = self._of(index)
        return b"" if store is None else store.content(index)

    def _of(self, index: int) -> MaskStore | None:
        return next((store for store in self.stores if store.has(index)), None)
