"""Stores that no file layout covers: arrays, zips, and several stores as one."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.data.dataset import Dataset
from vitreous.data.stores import (
    ArrayImages,
    ArrayMasks,
    FileImages,
    FileMasks,
    NamedImages,
    Names,
    ZipImages,
    concatenate,
)
from vitreous.data.stores.joined import FirstMasks
from vitreous.errors import ImageError


def png(value: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (3, 2), (value, 0, 0)).save(content, "PNG")
    return content.getvalue()


def zipped(path: Path, values: dict[str, int]) -> ZipImages:
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in values.items():
            archive.writestr(name, png(value))
    return ZipImages(path, list(values))


def array(*values: int, masked: tuple[int, ...] = ()) -> Dataset:
    pixels = torch.stack([torch.full((2, 3, 3), value, dtype=torch.uint8) for value in values])
    masks = torch.zeros(len(values), 1, 2, 3)
    masks[list(masked), :, 0] = 1
    names = [f"i{value}" for value in values]
    return Dataset(ArrayImages(pixels, names), np.arange(len(values)), masks=ArrayMasks(masks))


def test_a_zip_is_read_by_name_in_any_process(tmp_path: Path) -> None:
    images = zipped(tmp_path / "a.zip", {"x/1.png": 11, "x/2.png": 22})
    for copy in (images, pickle.loads(pickle.dumps(images))):
        assert [copy.name(i) for i in range(len(copy))] == ["x/1.png", "x/2.png"]
        assert [copy.open(i).getpixel((0, 0))[0] for i in (1, 0)] == [22, 11]
        assert copy.content(1) == png(22)
    stamps = [images.stamp(i) for i in range(2)]
    zipped(tmp_path / "a.zip", {"x/1.png": 11, "x/2.png": 33})
    os.utime(tmp_path / "a.zip", ns=(1, 1))
    assert images.stamp(0) == stamps[0] and images.stamp(1) != stamps[1]
    assert images.open(1).getpixel((0, 0))[0] == 33
    with pytest.raises(ImageError, match=r"a.zip holds no y.png"):
        ZipImages(tmp_path / "a.zip", ["y.png"]).open(0)
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(ImageError, match="is not a zip"):
        images.open(0)
    (tmp_path / "a.zip").unlink()
    with pytest.raises(ImageError, match="no zip at"):
        images.stamp(0)


def test_a_member_whose_bytes_have_changed_is_told(tmp_path: Path) -> None:
    images = zipped(tmp_path / "a.zip", {"1.png": 1})
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"IDAT", b"IDAX"))
    with pytest.raises(ImageError, match=r"a.zip:1.png is corrupt"):
        images.open(0)


def test_arrays_have_a_stamp_of_their_content() -> None:
    one, other = array(1, 2, masked=(0,)), array(1, 3, masked=(1,))
    assert one.images.stamp(0) == other.images.stamp(0) != one.images.stamp(1)
    assert one.images.stamp(1) != other.images.stamp(1)
    assert one.masks.stamp(1) == () != one.masks.stamp(0)
    assert one[0].mask.sum() == 3 and one[1].mask is None
    with pytest.raises(ValueError, match="expected bytes"):
        ArrayImages(torch.zeros(2, 2, 3, 3), ["a", "b"])


def test_datasets_are_laid_one_after_the_other(tmp_path: Path) -> None:
    bare = Dataset(zipped(tmp_path / "a.zip", {"1.png": 7}), np.array([5]))
    both = concatenate(
        {"a": array(1, 2, masked=(1,)), "b": bare, "c": array(3, masked=(0,))}, "xyz"
    )
    assert [both.name(i) for i in range(4)] == ["a/i1", "a/i2", "b/1.png", "c/i3"]
    assert [both.images.open(i).getpixel((0, 0))[0] for i in range(4)] == [1, 2, 7, 3]
    assert both.labels.tolist() == [0, 1, 5, 0] and both.class_names == ("x", "y", "z")
    assert [both[i].mask is not None for i in range(4)] == [False, True, False, True]
    assert [both.masks.has(i) for i in range(4)] == [False, True, False, True]
    assert both.images.stamp(2) == bare.images.stamp(0) and both.masks.stamp(2) == ()
    assert both.images.content(2) == png(7) and both.masks.content(2) == b""
    with pytest.raises(IndexError, match="no image 4 of 4"):
        both.name(4)


def test_a_store_may_have_other_names() -> None:
    named = NamedImages(array(1, 2).images, ("one", "two"))
    assert (named.name(1), len(named)) == ("two", 2)
    assert named.open(1).getpixel((0, 0)) == (2, 2, 2)
    assert named.stamp(1) == array(1, 2).images.stamp(1)


def test_the_first_store_that_has_a_mask_gives_it() -> None:
    first, second = array(1, 2, masked=(0,)).masks, array(1, 2, masked=(0, 1)).masks
    second.masks[0] = 1
    masks = FirstMasks((first, second))
    assert masks.open(0).sum() == 3 and masks.open(1).sum() == 3 and masks.has(1)
    assert FirstMasks((first,)).open(1) is None and FirstMasks((first,)).stamp(1) == ()


def test_a_million_names_take_little_room_whatever_their_length() -> None:
    long = "x" * 250
    names = Names(["a/b.png", long, "", "ü.png"])
    assert [names.text(i) for i in range(4)] == ["a/b.png", long, "", "ü.png"]
    many = Names(f"n{i:08d}.jpg" for i in range(10_000))
    assert many.path(9_999) == "n00009999.jpg" and len(pickle.dumps(many)) < 10_000 * 22


def test_files_that_are_not_there(tmp_path: Path) -> None:
    images = FileImages(tmp_path, ["a.png", "b\0.png", "x" * 300])
    for index in range(3):
        assert images.stamp(index) == ()
        with pytest.raises(ImageError):
            images.open(index)
        with pytest.raises(ImageError):
            images.content(index)
    masks = FileMasks(tmp_path, ["", "a.png"])
    assert not masks.has(0) and masks.open(0) is None and masks.content(0) == b""
    with pytest.raises(ImageError, match="no mask at"):
        masks.open(1)
