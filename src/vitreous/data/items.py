"""Pictures with labels and masks, before and after views, in an order that survives a restart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitreous.data.batch import Batch
from vitreous.data.images import open_image
from vitreous.data.mask_files import MaskFormat, read_mask
from vitreous.errors import ImageError


class ImageDataset(Protocol):
    """A sequence of pictures."""

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def read(self, index: int) -> tuple[Image.Image, Tensor | None, int]:
        """Read one: RGB picture, mask (1, H, W) or None, label."""
        ...

    def name(self, index: int) -> str:
        """What messages and reports call it."""
        ...


@dataclasses.dataclass(frozen=True)
class Sample:
    """A picture file.

    Attributes:
        path: The picture.
        label: Its class.
        mask: Its mask file, if it has one.
    """

    path: Path
    label: int
    mask: Path | None = None


@dataclasses.dataclass(frozen=True)
class FileDataset:
    """Pictures and masks in files.

    Attributes:
        samples: The files.
        mask_format: How mask files are read.
    """

    samples: Sequence[Sample]
    mask_format: MaskFormat = "binary"

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        """Path of the picture."""
        return str(self.samples[index].path)

    def read(self, index: int) -> tuple[Image.Image, Tensor | None, int]:
        """Read a picture and its mask.

        Raises:
            ImageError: If either cannot be read, the mask is of another size or has no foreground.
        """
        sample = self.samples[index]
        image = open_image(sample.path)
        if sample.mask is None:
            return image, None, sample.label
        mask = read_mask(sample.mask, self.mask_format)
        if mask.shape[1:] != (image.height, image.width):
            raise ImageError(
                f"mask {sample.mask} is {mask.shape[2]}×{mask.shape[1]} pixels, its picture "
                f"{sample.path} is {image.width}×{image.height}; they must be of one size"
            )
        if not mask.any():
            raise ImageError(f"mask {sample.mask} has no foreground")
        return image, mask, sample.label


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of the pictures of another sequence.

    Attributes:
        items: The whole.
        indices: Which, in order.
    """

    items: ImageDataset
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """What the whole calls it."""
        return self.items.name(self.indices[index])

    def read(self, index: int) -> tuple[Image.Image, Tensor | None, int]:
        """Read one."""
        return self.items.read(self.indices[index])


def readable(items: ImageDataset) -> tuple[Subset, list[str]]:
    """Try every picture; return those that can be read, and a line about each that cannot."""
    from tqdm import tqdm

    good, bad = [], []
    for index in tqdm(range(len(items)), desc="checking pictures", leave=False, disable=None):
        try:
            items.read(index)
            good.append(index)
        except ImageError as error:
            bad.append(str(error))
    return Subset(items, good), bad


class TransformedDataset(Dataset[dict[str, Any]]):
    """Items seen through views; the key (epoch, index) decides every random choice.

    Args:
        items: The pictures.
        view: From picture and mask to tensors, all of one size.
        seed: Of the run.
    """

    def __init__(self, items: ImageDataset, view: Any, seed: int = 0):
        self.items, self.view, self.seed = items, view, seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        epoch, index = index
        image, mask, label = self.items.read(index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, epoch, index))
            transformed, moved = self.view(image, mask)
        return {
            "images": transformed,
            "labels": torch.tensor(label),
            "masks": moved,
            "has_mask": torch.tensor(mask is not None),
            "indices": torch.tensor(index),
        }


def derive_seed(*parts: int) -> int:
    """Mix numbers into one seed: neighbours give unrelated streams."""
    state = np.random.SeedSequence([p & 0xFFFFFFFF for p in parts]).generate_state(2, np.uint32)
    return (int(state[0]) << 31) ^ int(state[1])


Interleave = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def epoch_batches(
    count: int,
    batch_size: int,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    interleave: Interleave | None = None,
) -> list[list[int]]:
    """The order of one epoch as batches over all processes; the last one may be short.

    Args:
        count: Number of pictures.
        batch_size: Pictures a batch.
        seed: Of the run.
        epoch: Which epoch.
        shuffle: Shuffle; else in order.
        interleave: Rearranges the order, so that each batch gets its share of each kind of picture.
    """
    random = np.random.default_rng(derive_seed(seed, epoch))
    order = random.permutation(count) if shuffle else np.arange(count)
    if interleave is not None:
        order = interleave(order, random)
    return [order[i : i + batch_size].tolist() for i in range(0, count, batch_size)]


def collate(rows: list[dict[str, Any]]) -> Batch:
    """Stack rows to a batch."""
    return Batch(**{key: torch.stack([row[key] for row in rows]) for key in rows[0]})


def load_batches(
    data: TransformedDataset, batches: Sequence[Sequence[int]], epoch: int, workers: int = 0
) -> Iterator[Batch]:
    """Read batches, in the order given; what comes out does not depend on the workers."""
    keys = [[(epoch, index) for index in batch] for batch in batches]
    loader = DataLoader(
        data,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)
