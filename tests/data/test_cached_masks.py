"""Masks are decoded once for all epochs, anew where they change, and never beyond the limit."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vitreous.data.dataset import Dataset
from vitreous.data.loading import TransformedDataset, load_batches
from vitreous.data.stores import ArrayImages, FileMasks
from vitreous.data.stores.cached import CachedMasks, with_cached_masks
from vitreous.errors import ImageError
from vitreous.training.setup import transformed

COUNT = 6
SIZE = (5, 7)


class Counted(FileMasks):
    """Writes down each mask that it decodes, in whichever process."""

    log: Path

    def open(self, index: int) -> Tensor | None:
        if self.has(index):
            with self.log.open("a") as file:
                file.write(f"{index}\n")
        return super().open(index)

    def decoded(self) -> list[int]:
        lines = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return sorted(map(int, lines))


@pytest.fixture
def masks(tmp_path: Path) -> Counted:
    """Six masks, of which the fourth is not there."""
    random = np.random.default_rng(0)
    for index in range(COUNT):
        pixels = (random.random(SIZE) < 0.5).astype(np.uint8) * 255
        pixels[0, 0] = 255
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    store = Counted(tmp_path, ["" if i == 3 else f"{i}.png" for i in range(COUNT)])
    store.log = tmp_path / "log.txt"
    return store


def dataset(masks: Counted) -> Dataset:
    pixels = torch.zeros(COUNT, *SIZE, 3, dtype=torch.uint8)
    names = [f"image {i}" for i in range(COUNT)]
    return Dataset(ArrayImages(pixels, names), np.zeros(COUNT, np.int64), masks=masks)


def view(image: Image.Image, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    return torch.zeros(3, *SIZE), torch.zeros(1, *SIZE) if mask is None else mask


def test_they_are_those_of_the_store_and_decoded_once(masks: Counted) -> None:
    cached = CachedMasks(masks)
    first = [cached.open(i) for i in range(COUNT)]
    assert masks.decoded() == [0, 1, 2, 4, 5]
    again = [cached.open(i) for i in range(COUNT)]
    assert masks.decoded() == []
    for index, (one, other) in enumerate(zip(first, again)):
        expected = masks.open(index)
        if expected is None or one is None or other is None:
            assert index == 3 and one is None and other is None
            continue
        assert torch.equal(one, expected) and torch.equal(other, expected)
        assert other.dtype == expected.dtype
    assert [cached.has(i) for i in range(COUNT)] == [i != 3 for i in range(COUNT)]
    assert cached.stamp(0) == masks.stamp(0) and cached.content(0) == masks.content(0)


def test_what_was_changed_is_read_anew(masks: Counted) -> None:
    cached = CachedMasks(masks)
    cached.open(1)
    Image.fromarray(np.full(SIZE, 255, np.uint8)).save(masks.path(1))
    os.utime(masks.path(1), (1, 1))
    changed, again = cached.open(1), cached.open(1)
    assert masks.decoded() == [1, 1]
    assert changed is not None and bool(changed.all())
    assert again is not None and torch.equal(changed, again)
    changed.zero_()  # what is given is the caller's
    again = cached.open(1)
    assert again is not None and bool(again.all())


def test_the_limit_holds_and_a_sent_store_is_empty(masks: Counted) -> None:
    bits = -(-SIZE[0] * SIZE[1] // 8)
    cached = CachedMasks(masks, limit=2 * bits)
    for _ in range(2):
        for index in range(COUNT):
            cached.open(index)
    assert masks.decoded() == [0, 1, 2, 2, 4, 4, 5, 5]
    whole = CachedMasks(masks)
    whole.fill(COUNT)
    sent = len(pickle.dumps(whole)), len(pickle.dumps(CachedMasks(masks)))
    assert sent[0] == sent[1]


def test_reading_ahead_ends_where_room_does_and_is_not_repeated(masks: Counted) -> None:
    bits = -(-SIZE[0] * SIZE[1] // 8)
    cached = CachedMasks(masks, limit=2 * bits + 1)
    masks.path(0).write_bytes(b"no image")
    for _ in range(3):
        cached.fill(COUNT)
    assert masks.decoded() == [0, 1, 2, 4]  # the first cannot be read, the fifth has no room
    with pytest.raises(ImageError):
        cached.open(0)


def test_soft_masks_stay_soft() -> None:
    class Soft:
        def has(self, index: int) -> bool:
            return True

        def open(self, index: int) -> Tensor:
            return torch.full((1, 2, 2), 0.5)

        def stamp(self, index: int) -> tuple[int, ...]:
            return (0,)

        def content(self, index: int) -> bytes:
            return b""

    cached = CachedMasks(Soft())
    for _ in range(2):
        mask = cached.open(0)
        assert mask is not None and bool((mask == 0.5).all())


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_decode_each_once_with_reading_processes_too(masks: Counted, workers: int) -> None:
    if workers and multiprocessing.get_start_method() != "fork":
        pytest.skip("processes that are not forked read for themselves")
    shown = TransformedDataset(with_cached_masks(dataset(masks)), view)
    order = [[5, 4], [3, 2], [1, 0]]
    found = [list(load_batches(shown, order, epoch, workers)) for epoch in range(3)]
    assert masks.decoded() == [0, 1, 2, 4, 5]
    for batches in found:
        read = torch.cat([batch.masks for batch in batches])
        for row, index in enumerate(i for batch in order for i in batch):
            expected = masks.open(index)
            assert torch.equal(read[row], torch.zeros(1, *SIZE) if expected is None else expected)


def test_training_reads_through_it(masks: Counted) -> None:
    from types import SimpleNamespace

    data = dataset(masks)
    recipe = SimpleNamespace(
        training=SimpleNamespace(seed=0),
        transforms=SimpleNamespace(train={}, validation={}, decoding="exact"),
    )
    shown = transformed(SimpleNamespace(train=data, validation=data), recipe)
    assert all(isinstance(part.dataset.masks, CachedMasks) for part in shown)
