"""A dataset of noise in memory, whose files tests can change, break and rename."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitreous.data.dataset import Dataset
from vitreous.errors import ImageError

COUNT = 6


@dataclasses.dataclass(frozen=True)
class Noise:
    """Images of noise in memory, with times of change that tests can set."""

    seeds: tuple[int, ...] = tuple(range(COUNT))
    times: tuple[int, ...] = (0,) * COUNT
    broken: tuple[int, ...] = ()
    prefix: str = "image"

    def __len__(self) -> int:
        return len(self.seeds)

    def name(self, index: int) -> str:
        return f"{self.prefix} {index}"

    def open(self, index: int) -> Image.Image:
        if index in self.broken:
            raise ImageError(f"{self.name(index)} is broken")
        random = np.random.default_rng(self.seeds[index])
        return Image.fromarray(random.integers(0, 255, (32, 32, 3)).astype(np.uint8))

    def stamp(self, index: int) -> tuple[int, ...]:
        return 3072, self.times[index]

    def content(self, index: int) -> bytes:
        return np.asarray(self.open(index)).tobytes()


@dataclasses.dataclass(frozen=True)
class Squares:
    """A square in each image."""

    time: int = 0

    def has(self, index: int) -> bool:
        return True

    def open(self, index: int) -> torch.Tensor:
        mask = torch.zeros(1, 32, 32)
        mask[:, 8:20, 4 + index : 16 + index] = 1
        return mask

    def stamp(self, index: int) -> tuple[int, ...]:
        return 1, self.time

    def content(self, index: int) -> bytes:
        return bytes([self.time])


def noise(**changes: Any) -> Dataset:
    values = {
        "images": Noise(),
        "labels": np.arange(COUNT) % 3,
        "class_names": ("a", "b", "c"),
        "masks": Squares(),
        "groups": np.arange(COUNT) % 2,
        "group_names": ("land", "water"),
    }
    return Dataset(**{**values, **changes})
