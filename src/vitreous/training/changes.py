"""Whether the images of a run are still those it began with, when it goes on after a stop."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vitreous.data.dataset import Dataset
from vitreous.data.readers import Split
from vitreous.errors import VitreousError
from vitreous.fingerprint import number_of


@dataclasses.dataclass(frozen=True)
class DataState:
    """What the images of a run were: 64 bits for each name, and for what stands under it.

    Attributes:
        names: (N,) int64, training images first.
        contents: (N,) int64; changes with size and time of change of image and mask.
    """

    names: Tensor
    contents: Tensor

    @classmethod
    def of(cls, split: Split) -> DataState:
        """Look at all images of a split; files are not opened."""
        parts = [split.train, split.validation]
        keys = [_key(part, index) for part in parts for index in range(len(part))]
        table = torch.tensor(keys, dtype=torch.int64).reshape(-1, 2)
        return cls(table[:, 0].contiguous(), table[:, 1].contiguous())

    def plain(self) -> dict[str, Tensor]:
        """As it is stored with the state of a run."""
        return {"names": self.names, "contents": self.contents}


def compare_data(stored: DataState, split: Split) -> str:
    """Say what changed while a run was interrupted, in one line; empty where nothing did.

    Args:
        stored: What the images were.
        split: What they are.

    Raises:
        VitreousError: If images came or went, so that batches would be others than before.
    """
    now = DataState.of(split)
    if not torch.equal(stored.names, now.names):
        raise VitreousError(
            f"the images of this run have changed since it was interrupted: "
            f"{_coming_and_going(stored, now, split)}; put them back, or begin anew with another "
            "--out"
        )
    places = (stored.contents != now.contents).nonzero().flatten().tolist()
    if not places:
        return ""
    return (
        f"{len(places)} of {len(now.names)} images or masks were replaced while this run was "
        f"interrupted (first: {_name(split, places[0])}), so its result is not that of one data set"
    )


def _coming_and_going(stored: DataState, now: DataState, split: Split) -> str:
    before, after = set(stored.names.tolist()), now.names.tolist()
    new = [place for place, name in enumerate(after) if name not in before]
    gone = len(before - set(after))
    words = [f"{len(new)} added (first: {_name(split, new[0])})"] if new else []
    words += [f"{gone} removed"] if gone else []
    return ", ".join(words) or "they stand in another order"


def _name(split: Split, place: int) -> str:
    count = len(split.train)
    return split.train.name(place) if place < count else split.validation.name(place - count)


def _key(images: Dataset, index: int) -> tuple[int, int]:
    return _signed(number_of(images.name(index))), _signed(images.key(index))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
