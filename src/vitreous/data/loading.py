"""From a dataset to batches for training, in an order that survives a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data

from vitreous.data.batch import Batch
from vitreous.data.dataset import Dataset
from vitreous.data.reading_process import endings_held_back, leave_ending_to_the_parent
from vitreous.data.stores.cached import CachedMasks

Interleave = Callable[[np.ndarray, np.random.Generator], np.ndarray]
View = Callable[[Image.Image, Tensor | None], tuple[Tensor, Tensor]]


class Row(TypedDict):
    """One image of a batch; see `Batch`."""

    images: Tensor
    labels: Tensor
    masks: Tensor
    has_mask: Tensor
    indices: Tensor
    groups: Tensor


class TransformedDataset(data.Dataset[Row]):
    """A dataset seen through transforms; the key (epoch, index) decides every random choice.

    Args:
        dataset: The images.
        view: From image and mask to tensors, all of one size.
        seed: Of the run.
    """

    def __init__(self, dataset: Dataset, view: View, seed: int = 0):
        self.dataset, self.view, self.seed = dataset, view, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> Row:
        epoch, number = index
        item = self.dataset[number]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, epoch, number))
            transformed, moved = self.view(item.image, item.mask)
        return {
            "images": transformed,
            "labels": torch.tensor(item.label),
            "masks": moved,
            "has_mask": torch.tensor(item.mask is not None),
            "indices": torch.tensor(number),
            "groups": torch.tensor(item.group),
        }


def derive_seed(*parts: int) -> int:
    """Mix numbers into one seed: neighbours give unrelated streams."""
    state = np.random.SeedSequence([p & 0xFFFFFFFF for p in parts]).generate_state(2, np.uint32)
    return (int(state[0]) << 31) ^ int(state[1])


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
        count: Number of images.
        batch_size: Images a batch.
        seed: Of the run.
        epoch: Which epoch.
        shuffle: Shuffle; else in order.
        interleave: Rearranges the order, so that each batch gets its share of each kind of image.
    """
    random = np.random.default_rng(derive_seed(seed, epoch))
    order = random.permutation(count) if shuffle else np.arange(count)
    if interleave is not None:
        order = interleave(order, random)
    return [order[i : i + batch_size].tolist() for i in range(0, count, batch_size)]


def collate(rows: list[Row]) -> Batch:
    """Stack rows to a batch."""
    return Batch(
        torch.stack([row["images"] for row in rows]),
        torch.stack([row["labels"] for row in rows]),
        torch.stack([row["masks"] for row in rows]),
        torch.stack([row["has_mask"] for row in rows]),
        torch.stack([row["indices"] for row in rows]),
        groups=torch.stack([row["groups"] for row in rows]),
    )


def load_batches(
    dataset: TransformedDataset, batches: Sequence[Sequence[int]], epoch: int, workers: int = 0
) -> Iterator[Batch]:
    """Read batches, in the order given; what comes out does not depend on the workers."""
    keys = [[(epoch, index) for index in batch] for batch in batches]
    masks = dataset.dataset.masks
    if workers and isinstance(masks, CachedMasks):
        masks.fill(len(dataset))
    loader = data.DataLoader(
        dataset,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=leave_ending_to_the_parent,
        pin_memory=torch.cuda.is_available(),
    )
    with endings_held_back(workers):
        return iter(loader)
