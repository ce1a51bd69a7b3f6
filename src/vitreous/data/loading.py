"""From a dataset to batches for training, in an order that survives a restart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data

from vitreous.data.batch import Batch, as_floats
from vitreous.data.dataset import Dataset
from vitreous.data.decoding import Reduction, reduced_decoding
from vitreous.data.reading_process import endings_held_back, leave_ending_to_the_parent
from vitreous.data.stores.cached import CachedMasks

Interleave = Callable[[np.ndarray, np.random.Generator], np.ndarray]
View = Callable[[Image.Image, Tensor | None], tuple[Tensor, Tensor]]


class Row(TypedDict):
    """One image of a batch as it is read; see `Batch`."""

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
        reduction: How far the view lets a JPEG be decoded reduced, by the numbers that it is going
            to draw; None reads images as they are.
    """

    def __init__(
        self, dataset: Dataset, view: View, seed: int = 0, reduction: Reduction | None = None
    ):
        self.dataset, self.view, self.seed, self.reduction = dataset, view, seed, reduction

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> Row:
        epoch, number = index
        seed = derive_seed(self.seed, epoch, number)
        with reduced_decoding(self._drawn(seed)):
            item = self.dataset[number]
        with _seeded(seed):
            transformed, moved = self.view(item.image, item.mask)
        return {
            "images": transformed,
            "labels": torch.tensor(item.label),
            "masks": _small(moved),
            "has_mask": torch.tensor(item.mask is not None),
            "indices": torch.tensor(number),
            "groups": torch.tensor(item.group),
        }

    def _drawn(self, seed: int) -> Reduction | None:
        """How far images may be reduced, by what the view draws for this seed."""
        reduction = self.reduction
        if reduction is None:
            return None

        def drawn(width: int, height: int) -> int:
            with _seeded(seed):
                return reduction(width, height)

        return drawn


@contextlib.contextmanager
def _seeded(seed: int) -> Generator[None]:
    """Let torch's generator of the CPU start from a seed, and have it back as it was.

    `torch.manual_seed` would seed every device, which takes longer than some views.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _small(mask: Tensor) -> Tensor:
    """A mask as bool, a quarter of the bytes, where it is of 0 and 1."""
    values = mask.numpy()
    return mask.bool() if ((values == 0) | (values == 1)).all() else mask


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
    """Stack rows to a batch, images in bytes and masks in bool where all of them are."""
    images, masks = [row["images"] for row in rows], [row["masks"] for row in rows]
    if len({image.dtype for image in images}) > 1:
        images = [as_floats(image) for image in images]
    if len({mask.dtype for mask in masks}) > 1:
        masks = [as_floats(mask) for mask in masks]
    return Batch(
        torch.stack(images),
        torch.stack([row["labels"] for row in rows]),
        torch.stack(masks),
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
