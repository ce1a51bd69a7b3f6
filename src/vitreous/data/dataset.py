"""`Dataset`: a numbered collection of images with labels, masks and groups, for every room.

Training, masking, evaluation, attacks and brain stimuli all take one. Where the images are (files,
shards, tables, arrays) is the business of an `ImageStore`; a reader (`vitreous.data.readers`) finds
them and says what it left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from vitreous.data.decoding import whole_of
from vitreous.errors import ImageError
from vitreous.fingerprint import number_of

UNKNOWN = -1


class ImageStore(Protocol):
    """Where images are. Anything may be asked in any order and from any process."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def name(self, index: int) -> str:
        """What results and messages call an image: unique, with `/` between its parts."""
        ...

    def open(self, index: int) -> Image.Image:
        """Read an image as RGB, upright; raises `ImageError` that names it."""
        ...

    def stamp(self, index: int) -> tuple[int, ...]:
        """What changes when the content does: size in bytes, time of change in nanoseconds."""
        ...

    def content(self, index: int) -> bytes:
        """The stored bytes, for `--check-content`; raises `ImageError`."""
        ...


class MaskStore(Protocol):
    """Where masks are, numbered as the images that they belong to."""

    def has(self, index: int) -> bool:
        """Whether an image has a mask."""
        ...

    def open(self, index: int) -> Tensor | None:
        """Read a mask (1, H, W) in [0, 1], 1 = foreground; None where there is none.

        Raises:
            ImageError: If it cannot be read; names it.
        """
        ...

    def stamp(self, index: int) -> tuple[int, ...]:
        """What changes when the mask does; empty where there is none."""
        ...

    def content(self, index: int) -> bytes:
        """The stored bytes; empty where there is none."""
        ...


@dataclasses.dataclass(frozen=True)
class Item:
    """One image with what is known of it.

    Attributes:
        index: Its number in the dataset.
        name: Unique in the dataset.
        image: RGB; inside `reduced_decoding` it may be reduced.
        label: Its class; -1 where unknown.
        mask: (1, H, W) in [0, 1], 1 = foreground, of the whole image's size; None where there
            is none.
        group: Its group; -1 where unknown.
    """

    index: int
    name: str
    image: Image.Image
    label: int
    mask: Tensor | None
    group: int


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """What a reader passed over: every file or folder of it, and why.

    Attributes:
        what: Kind and reason in a few words, for example `folders that are no class`.
        names: All of them.
    """

    what: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.names[:3]) + (", …" if len(self.names) > 3 else "")
        return f"{len(self.names)} {self.what} ({shown})"


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A numbered collection of images.

    Attributes:
        images: Where they are.
        labels: (N,) int64 class of each; -1 where unknown.
        class_names: Name of each class; empty where unknown.
        masks: Where their masks are, if there are any.
        groups: (N,) int64 group of each, -1 where unknown; None where there are no groups.
        group_names: Name of each group.
        left_out: What the reader passed over.
    """

    images: ImageStore
    labels: np.ndarray
    class_names: tuple[str, ...] = ()
    masks: MaskStore | None = None
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (("labels", self.labels), ("groups", self.groups)):
            if values is not None and values.shape != (len(self.images),):
                raise ValueError(
                    f"expected {name} for {len(self.images)} images, found shape {values.shape}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """What results and messages call an image."""
        return self.images.name(index)

    def label(self, index: int) -> int:
        """Class of an image; -1 where unknown."""
        return int(self.labels[index])

    def group(self, index: int) -> int:
        """Group of an image; -1 where unknown."""
        return UNKNOWN if self.groups is None else int(self.groups[index])

    def mask(self, index: int) -> Tensor | None:
        """Mask (1, H, W) of an image, if it has one; raises `ImageError`."""
        return None if self.masks is None else self.masks.open(index)

    def __getitem__(self, index: int) -> Item:
        """Read one image with all that is known of it.

        Raises:
            ImageError: If the image or its mask cannot be read, they are of different size, or
                the mask has no foreground.
        """
        image, mask = self.images.open(index), self.mask(index)
        if mask is not None:
            self._check(index, image, mask)
        name, label = self.name(index), self.label(index)
        return Item(index, name, image, label, mask, self.group(index))

    def _check(self, index: int, image: Image.Image, mask: Tensor) -> None:
        height, width = mask.shape[1:]
        whole = whole_of(image)
        if (width, height) != (whole.width, whole.height):
            raise ImageError(
                f"the mask of {self.name(index)} is {width}×{height} pixels, its image is "
                f"{whole.width}×{whole.height}; they must be of one size"
            )
        if not mask.any():
            raise ImageError(f"the mask of {self.name(index)} has no foreground")

    def select(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The images of these numbers, in this order, numbered anew."""
        chosen = np.asarray(indices, dtype=np.int64)
        return dataclasses.replace(
            self,
            images=SelectedImages(self.images, chosen),
            labels=self.labels[chosen],
            masks=None if self.masks is None else SelectedMasks(self.masks, chosen),
            groups=None if self.groups is None else self.groups[chosen],
        )

    def key(self, index: int, *, content: bool = False) -> int:
        """64 bits that change with anything that an answer for this image depends on.

        That is its name, label and group, and of image and mask the size and the time of change.

        Args:
            index: Which image.
            content: Hash the stored bytes instead of trusting size and time.

        Raises:
            ImageError: With `content`, if a file cannot be read.
        """
        about: list[object] = [self.name(index), self.label(index), self.group(index)]
        stores = [self.images] if self.masks is None else [self.images, self.masks]
        about += [s.content(index) if content else s.stamp(index) for s in stores]
        return number_of(repr(about))

    def keys(self, indices: np.ndarray | None = None, *, content: bool = False) -> np.ndarray:
        """(N,) uint64 keys of some images, or of all.

        Where content is asked for and cannot be read, the key is that of name, size and time.
        """
        chosen = np.arange(len(self)) if indices is None else indices

        def key(index: int) -> int:
            try:
                return self.key(index, content=content)
            except ImageError:
                return self.key(index)

        return np.fromiter((key(i) for i in chosen.tolist()), np.uint64, len(chosen))


@dataclasses.dataclass(frozen=True)
class SelectedImages:
    """Some images of a store, numbered anew."""

    images: ImageStore
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """Its name in the whole."""
        return self.images.name(int(self.indices[index]))

    def open(self, index: int) -> Image.Image:
        """Read one."""
        return self.images.open(int(self.indices[index]))

    def stamp(self, index: int) -> tuple[int, ...]:
        """Its stamp in the whole."""
        return self.images.stamp(int(self.indices[index]))

    def content(self, index: int) -> bytes:
        """Its bytes."""
        return self.images.content(int(self.indices[index]))


@dataclasses.dataclass(frozen=True)
class SelectedMasks:
    """Some masks of a store, numbered anew."""

    masks: MaskStore
    indices: np.ndarray

    def has(self, index: int) -> bool:
        """Whether it has a mask."""
        return self.masks.has(int(self.indices[index]))

    def open(self, index: int) -> Tensor | None:
        """Read one."""
        return self.masks.open(int(self.indices[index]))

    def stamp(self, index: int) -> tuple[int, ...]:
        """Its stamp in the whole."""
        return self.masks.stamp(int(self.indices[index]))

    def content(self, index: int) -> bytes:
        """Its bytes."""
        return self.masks.content(int(self.indices[index]))
