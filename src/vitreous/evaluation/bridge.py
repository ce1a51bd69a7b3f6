"""Datasets of the older collections of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from vitreous.data.dataset import Dataset
from vitreous.data.files import Files, TarMembers
from vitreous.data.items import FileDataset, ImageDataset
from vitreous.evaluation.test_sets import TestSet


def dataset_of(test_set: TestSet) -> Dataset:
    """The images of a test set; labels are its targets."""
    return Dataset(_Images(test_set.images), test_set.targets.astype(np.int64))


def masked_dataset(items: ImageDataset) -> Dataset:
    """Images with masks."""
    labels = np.array([_label(items, i) for i in range(len(items))], dtype=np.int64)
    return Dataset(_Items(items), labels, masks=_Masks(items))


def _label(items: Any, index: int) -> int:
    return items.samples[index].label if isinstance(items, FileDataset) else -1


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        about = path.stat()
    except OSError:
        return ()
    return about.st_size, about.st_mtime_ns


@dataclasses.dataclass(frozen=True)
class _Images:
    images: Any

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images.name(index)

    def open(self, index: int) -> Image.Image:
        return self.images.open(index)

    def stamp(self, index: int) -> tuple[int, ...]:
        if isinstance(self.images, Files):
            return _stamp(self.images.root / self.images.name(index))
        if isinstance(self.images, TarMembers):
            shard, offset, size = (int(v) for v in self.images._where[:, index])
            return (*_stamp(self.images.shards[shard]), offset, size)
        return ()

    def content(self, index: int) -> bytes:
        if isinstance(self.images, Files):
            return (self.images.root / self.images.name(index)).read_bytes()
        return np.asarray(self.open(index)).tobytes()


@dataclasses.dataclass(frozen=True)
class _Items:
    items: Any

    def __len__(self) -> int:
        return len(self.items)

    def name(self, index: int) -> str:
        return self.items.name(index)

    def open(self, index: int) -> Image.Image:
        return self.items.read(index)[0]

    def stamp(self, index: int) -> tuple[int, ...]:
        if isinstance(self.items, FileDataset):
            return _stamp(self.items.samples[index].path)
        return _stamp(self.items.path)

    def content(self, index: int) -> bytes:
        if isinstance(self.items, FileDataset):
            return self.items.samples[index].path.read_bytes()
        return np.asarray(self.open(index)).tobytes()


@dataclasses.dataclass(frozen=True)
class _Masks:
    items: Any

    def has(self, index: int) -> bool:
        return not isinstance(self.items, FileDataset) or self.items.samples[index].mask is not None

    def open(self, index: int) -> Tensor | None:
        return self.items.read(index)[1]

    def stamp(self, index: int) -> tuple[int, ...]:
        if not isinstance(self.items, FileDataset):
            return _stamp(self.items.path)
        mask = self.items.samples[index].mask
        return () if mask is None else _stamp(mask)

    def content(self, index: int) -> bytes:
        mask = self.open(index)
        return b"" if mask is None else mask.numpy().tobytes()
