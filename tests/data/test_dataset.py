"""A dataset: numbers, names, labels, masks, groups, and a key for everything that may change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.data.dataset import Dataset, LeftOut
from vitreous.errors import ImageError


@dataclasses.dataclass
class Shades:
    """Images of one shade each, in memory."""

    values: list[int]
    times: list[int]
    prefix: str = "i"

    def __len__(self) -> int:
        return len(self.values)

    def name(self, index: int) -> str:
        return f"{self.prefix}{index}"

    def open(self, index: int) -> Image.Image:
        return Image.new("RGB", (6, 4), (self.values[index],) * 3)

    def stamp(self, index: int) -> tuple[int, ...]:
        return 3, self.times[index]

    def content(self, index: int) -> bytes:
        return bytes([self.values[index]])


@dataclasses.dataclass
class Tops:
    """Masks of the first row, for images of even number."""

    size: tuple[int, int] = (4, 6)
    time: int = 0

    def has(self, index: int) -> bool:
        return index % 2 == 0

    def open(self, index: int) -> torch.Tensor | None:
        if not self.has(index):
            return None
        mask = torch.zeros(1, *self.size)
        mask[:, :1] = 1.0
        return mask

    def stamp(self, index: int) -> tuple[int, ...]:
        return (1, self.time) if self.has(index) else ()

    def content(self, index: int) -> bytes:
        return bytes([self.time]) if self.has(index) else b""


def make(**changes) -> Dataset:
    values = {
        "images": Shades([10, 20, 30], [1, 2, 3]),
        "labels": np.array([0, 1, -1]),
        "masks": Tops(),
        "groups": np.array([4, 5, -1]),
    }
    return Dataset(**{**values, **changes})


def test_an_item_holds_all_that_is_known() -> None:
    item = make()[1]
    assert (item.index, item.name, item.label, item.mask, item.group) == (1, "i1", 1, None, 5)
    assert item.image.getpixel((0, 0)) == (20, 20, 20)
    bare = make(masks=None, groups=None)[2]
    assert (bare.label, bare.mask, bare.group) == (-1, None, -1)


def test_a_selection_is_numbered_anew_and_keeps_everything_else() -> None:
    whole = make()
    chosen = whole.select([2, 0]).select([1, 0, 1])
    assert [chosen.name(i) for i in range(3)] == ["i0", "i2", "i0"]
    assert [chosen.label(i) for i in range(3)] == [0, -1, 0]
    assert [chosen.group(i) for i in range(3)] == [4, -1, 4]
    assert chosen[0].mask is not None and chosen[0].image.getpixel((0, 0)) == (10, 10, 10)
    assert chosen.key(0) == whole.key(0) != whole.key(2) == chosen.key(1)
    assert whole.select([1]).masks.has(0) is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": Tops((4, 5))}, "mask of i0 is 5×4 pixels, its image is 6×4"),
        ({"masks": Tops((0, 6))}, "of one size"),
    ],
)
def test_a_mask_that_does_not_fit_is_told(changes, message) -> None:
    with pytest.raises(ImageError, match=message):
        make(**changes)[0]


def test_a_mask_without_foreground_is_told(monkeypatch) -> None:
    monkeypatch.setattr(Tops, "open", lambda *_: torch.zeros(1, 4, 6))
    with pytest.raises(ImageError, match="i0 has no foreground"):
        make()[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.array([1, 1, -1])},
        {"groups": np.array([0, 5, -1])},
        {"groups": None},
        {"images": Shades([10, 20, 30], [9, 2, 3])},
        {"images": Shades([10, 20, 30], [1, 2, 3], prefix="j")},
        {"masks": Tops(time=7)},
        {"masks": None},
    ],
)
def test_each_ingredient_changes_the_key_of_its_image(changes) -> None:
    assert make(**changes).key(0) != make().key(0)
    if changes.keys() == {"labels"}:
        assert make(**changes).key(1) == make().key(1)


def test_the_content_is_hashed_on_request() -> None:
    same_stamp = make(images=Shades([11, 20, 30], [1, 2, 3]))
    assert same_stamp.key(0) == make().key(0)
    assert same_stamp.key(0, content=True) != make().key(0, content=True)
    later = make(images=Shades([10, 20, 30], [8, 8, 8]))
    assert later.key(0, content=True) == make().key(0, content=True)


def test_what_was_left_out_is_counted_and_named() -> None:
    text = str(LeftOut("files that are no images", ("a.txt", "b.txt", "c", "d")))
    assert text == "4 files that are no images (a.txt, b.txt, c, …)"


def test_labels_must_be_as_many_as_images() -> None:
    with pytest.raises(ValueError, match=r"labels for 3 images, found shape \(2,\)"):
        make(labels=np.array([0, 1]))
