"""A small masked set mixed into a large stream of unmasked pictures, both in every batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from vitreous.config import part
from vitreous.data.items import ImageDataset
from vitreous.data.readers.base import READERS, Reader, Split
from vitreous.errors import VitreousError, nearest


@dataclasses.dataclass(frozen=True)
class MixedItems:
    """Two sequences as one, each repeated from its start until it has its count.

    Attributes:
        stream: The pictures without masks.
        masked: The pictures with masks.
        stream_count: How many the stream gives; indices from 0 on.
        masked_count: How many the masked set gives; indices after those of the stream.
        labels: Label of each class of the masked set in the stream; its own where empty.
    """

    stream: ImageDataset
    masked: ImageDataset
    stream_count: int
    masked_count: int
    labels: Sequence[int] = ()

    def __len__(self) -> int:
        return self.stream_count + self.masked_count

    def name(self, index: int) -> str:
        """What the source of the picture calls it."""
        if index < self.stream_count:
            return self.stream.name(index % len(self.stream))
        return self.masked.name((index - self.stream_count) % len(self.masked))

    def read(self, index: int) -> tuple[Image.Image, Tensor | None, int]:
        """Read one; the stream's masks, if it has any, are left out."""
        if index < self.stream_count:
            image, _, label = self.stream.read(index % len(self.stream))
            return image, None, label
        image, mask, label = self.masked.read((index - self.stream_count) % len(self.masked))
        return image, mask, self.labels[label] if self.labels else label

    def interleave(self, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Rearrange an order so that every stretch of it has its share of masked pictures.

        The i-th of k pictures of a kind comes at a random place in the i-th k-th of the epoch, so
        that a batch of b has b · share masked ones, at most two more or fewer; each kind keeps
        its order.
        """
        masked = order >= self.stream_count
        places = np.empty(len(order))
        for kind in (masked, ~masked):
            count = int(kind.sum())
            places[kind] = (np.arange(count) + random.random(count)) / max(count, 1)
        return order[np.argsort(places, kind="stable")]


def counts(stream: int, masked: int, share: float) -> tuple[int, int]:
    """How many of each kind an epoch has: the least for which the share holds and none is left out.

    Args:
        stream: Pictures in the stream.
        masked: Pictures in the masked set.
        share: Share of the epoch that is masked, in (0, 1).
    """
    if masked * (1 - share) <= stream * share:
        return stream, round(stream * share / (1 - share))
    return round(masked * (1 - share) / share), masked


@READERS.register("mixed")
@dataclasses.dataclass(frozen=True)
class Mixed:
    """A masked set mixed into a stream; objectives that need masks use the rows that have one.

    An epoch shows every picture of both at least once; the one that is too small for its share is
    repeated, with other random views each time. Both sets validate, one after the other.

    Attributes:
        stream: Source of the many pictures; masks in it are not used.
        masked: Source of the few pictures with masks. Its classes are found among those of the
            stream by name; without names, labels are taken to mean the same in both.
        masked_share: Share of each batch that is masked.
    """

    stream: Reader | None = part(READERS)
    masked: Reader | None = part(READERS)
    masked_share: float = 0.25

    def __post_init__(self) -> None:
        if self.stream is None or self.masked is None:
            raise ValueError("expected two sources, 'stream' and 'masked'")
        if not 0 < self.masked_share < 1:
            raise ValueError(
                f"masked_share must lie between 0 and 1, found {self.masked_share}; for one "
                "source only, name it in data itself"
            )

    def load(self, seed: int) -> Split:
        """Load both.

        Raises:
            VitreousError: If either cannot be read, gives no pictures, or a class of the masked
                set is not one of the stream.
        """
        assert self.stream is not None and self.masked is not None
        stream, masked = self.stream.load(seed), self.masked.load(seed)
        for name, split in {"stream": stream, "masked": masked}.items():
            if not len(split.train):
                raise VitreousError(f"data.{name} gave no pictures to train on")
        labels = match_classes(stream.class_names, masked.class_names)
        train = MixedItems(
            stream.train,
            masked.train,
            *counts(len(stream.train), len(masked.train), self.masked_share),
            labels,
        )
        held = (len(stream.validation), len(masked.validation))
        validation = MixedItems(stream.validation, masked.validation, *held, labels)
        note = {
            "stream": {"pictures": len(stream.train), "shown": train.stream_count, **stream.note},
            "masked": {"pictures": len(masked.train), "shown": train.masked_count, **masked.note},
        }
        return Split(train, validation, stream.class_names or masked.class_names, note)


def match_classes(stream: Sequence[str], masked: Sequence[str]) -> list[int]:
    """Label in the stream of each class of the masked set; empty where either has no names.

    Raises:
        VitreousError: For a class that the stream does not have.
    """
    if not stream or not masked or list(stream) == list(masked):
        return []
    unknown = [name for name in masked if name not in stream]
    if unknown:
        raise VitreousError(
            f"data.masked has the class '{unknown[0]}', which data.stream has not; "
            f"{nearest(unknown[0], stream)}"
        )
    return [list(stream).index(name) for name in masked]
