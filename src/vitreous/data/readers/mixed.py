"""A small masked set mixed into a large stream of unmasked images, both in every batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from vitreous.config import part
from vitreous.data.dataset import UNKNOWN, Dataset
from vitreous.data.readers.base import READERS, Reader, Split
from vitreous.data.stores import concatenate
from vitreous.errors import VitreousError, nearest
from vitreous.ranges import above


@dataclasses.dataclass(frozen=True)
class Shares:
    """Rearranges the order of an epoch so that every stretch of it has its share of masked images.

    The i-th of k images of a kind comes at a random place in the i-th k-th of the epoch, so that a
    batch of b has b · share masked ones, at most two more or fewer; each kind keeps its order.

    Attributes:
        stream_count: Images from this number on are the masked ones.
    """

    stream_count: int

    def __call__(self, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Rearrange an order (N,)."""
        masked = order >= self.stream_count
        places = np.empty(len(order))
        for kind in (masked, ~masked):
            count = int(kind.sum())
            places[kind] = (np.arange(count) + random.random(count)) / max(count, 1)
        return order[np.argsort(places, kind="stable")]


def mix(stream: Dataset, masked: Dataset, stream_count: int, masked_count: int) -> Dataset:
    """Two datasets as one, each repeated from its start until it has its count.

    Args:
        stream: Many images; masks of theirs are not used.
        masked: Few images with masks. Its classes are found among those of the stream by name;
            without names, labels are taken to mean the same in both.
        stream_count: How many images the stream gives; numbers from 0 on.
        masked_count: How many the masked set gives; numbers after those of the stream.
    """
    table = np.array([*match_classes(stream.class_names, masked.class_names), UNKNOWN])
    labels = table[masked.labels] if len(table) > 1 else masked.labels
    names = stream.class_names or masked.class_names
    parts = {
        "stream": _repeat(dataclasses.replace(stream, masks=None), stream_count),
        "masked": _repeat(dataclasses.replace(masked, labels=labels), masked_count),
    }
    return concatenate(parts, names)


def _repeat(dataset: Dataset, count: int) -> Dataset:
    return dataset.select(np.arange(count) % max(len(dataset), 1))


def counts(stream: int, masked: int, share: float) -> tuple[int, int]:
    """How many of each kind an epoch has: the least for which the share holds and none is left out.

    Args:
        stream: Images in the stream.
        masked: Images in the masked set.
        share: Share of the epoch that is masked, in (0, 1).
    """
    if masked * (1 - share) <= stream * share:
        return stream, round(stream * share / (1 - share))
    return round(masked * (1 - share) / share), masked


@READERS.register("mixed")
@dataclasses.dataclass(frozen=True)
class Mixed:
    """A masked set mixed into a stream; objectives that need masks use the rows that have one.

    An epoch shows every image of both at least once; the one that is too small for its share is
    repeated, with other random transforms each time. Both sets validate, one after the other.

    Attributes:
        stream: Source of the many images; masks in it are not used.
        masked: Source of the few images with masks. Its classes are found among those of the
            stream by name; without names, labels are taken to mean the same in both.
        masked_share: Share of each batch that is masked.
    """

    stream: Reader | None = part(READERS)
    masked: Reader | None = part(READERS)
    masked_share: Annotated[float, above(0, below=1)] = 0.25

    def __post_init__(self) -> None:
        if self.stream is None or self.masked is None:
            raise ValueError("expected two sources, 'stream' and 'masked'")

    def load(self, seed: int) -> Split:
        """Load both.

        Raises:
            VitreousError: If either cannot be read, gives no images, or a class of the masked
                set is not one of the stream.
        """
        assert self.stream is not None and self.masked is not None
        stream, masked = self.stream.load(seed), self.masked.load(seed)
        for name, split in {"stream": stream, "masked": masked}.items():
            if not len(split.train):
                raise VitreousError(f"data.{name} gave no pictures to train on")
        shown = counts(len(stream.train), len(masked.train), self.masked_share)
        train = mix(stream.train, masked.train, *shown)
        held = (len(stream.validation), len(masked.validation))
        validation = mix(stream.validation, masked.validation, *held)
        note = {
            "stream": {"pictures": len(stream.train), "shown": shown[0], **stream.note},
            "masked": {"pictures": len(masked.train), "shown": shown[1], **masked.note},
        }
        return Split(train, validation, note, Shares(shown[0]))


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
