"""Data sources: folders, lists, masks, and RobustViT's selection from ImageNet-S."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torchvision import tv_tensors

from helpers import write_masked_set
from vitreous.data.loading import TransformedDataset, epoch_batches
from vitreous.data.mask_files import read_mask
from vitreous.data.readers.files import Folders
from vitreous.data.readers.imagenet_s import MERGED, ImageNetS, select
from vitreous.data.readers.unlabelled import Unlabelled
from vitreous.data.transforms import compose
from vitreous.data.transforms.geometry import (
    CenterCrop,
    Flip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
)
from vitreous.errors import VitreousError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_masked_set(tmp_path)
    return tmp_path


def names(items) -> list[str]:
    return ["/".join(Path(items.name(i)).parts[-2:]) for i in range(len(items))]


def test_folders_split_each_class_by_the_seed(root):
    source = Folders(str(root / "images"), str(root / "masks"), validation_share=0.2)
    first, again, other = source.load(0), source.load(0), source.load(1)
    assert names(first.train) == names(again.train) != names(other.train)
    assert len(first.train) == 12 and len(first.validation) == 3
    assert not set(names(first.train)) & set(names(first.validation))
    assert {n.split("/")[0] for n in names(first.validation)} == set(first.class_names)
    few = Folders(str(root / "images"), per_class=2).load(0)
    assert len(few.train) == 6
    with pytest.raises(VitreousError, match="class 0 has 4 pictures to train on"):
        Folders(str(root / "images"), per_class=9).load(0)


def test_masks_are_matched_by_path_or_by_stem_alone(root, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for label in range(3):
        for index in range(5):
            source = root / "images" / f"class_{label}" / f"{index}.png"
            target = source.with_name(f"{label}_{index}.png")
            source.rename(target)
            mask = root / "masks" / f"class_{label}" / f"{index}.png"
            mask.rename(flat / f"{label}_{index}.png")
    items = Folders(str(root / "images"), str(flat), validation_share=0.0).load(0).train
    item = items[7]
    array = np.asarray(item.image)
    bright = array[..., item.label] > 200
    assert np.array_equal(bright, item.mask[0].numpy() > 0)


def test_missing_class_folders_are_named(root, tmp_path):
    listing = tmp_path / "classes.txt"
    listing.write_text("class_0\nclass_1\nclass_2\nclass_3\n")
    with pytest.raises(VitreousError, match="lacks 1 of 4 class folders, first 'class_3'"):
        Folders(str(root / "images"), class_list=str(listing)).load(0)
    listing.write_text("class_0\nclas_1\nclass_2\n")
    with pytest.raises(VitreousError, match=r"unknown class 'class_1'; did you mean 'clas_1'"):
        Folders(str(root / "images"), class_list=str(listing)).load(0)
    with pytest.raises(VitreousError, match="holds no class folders"):
        Folders(str(root / "images" / "class_0")).load(0)


def test_lists_give_path_label_and_mask(root):
    listing = root / "list.csv"
    rows = ["path,label,mask"]
    rows += [f"images/class_{k}/0.png,{'xyz'[k]},masks/class_{k}/0.png" for k in (2, 0, 1)]
    listing.write_text("\n".join(rows) + "\n")
    split = Folders(str(listing), validation_share=0.0).load(0)
    assert split.class_names == ["x", "y", "z"]
    assert [split.train[i].label for i in range(3)] == [2, 0, 1]
    assert split.train[0].mask is not None
    listing.write_text("picture,label\na.png,0\n")
    with pytest.raises(
        VitreousError, match=r"expected the columns path,label\[,mask\]\[,group\], found picture"
    ):
        Folders(str(listing)).load(0)


def test_unlabelled_pictures_have_no_class(root):
    split = Unlabelled(str(root / "images"), str(root / "masks")).load(0)
    assert len(split.train) == 12 and split.train[0].label == -1
    (root / "masks" / "class_0" / "0.png").unlink()
    told = "1 of 15 pictures have no mask.*set data.require_masks false"
    with pytest.raises(VitreousError, match=told):
        Unlabelled(str(root / "images"), str(root / "masks")).load(0)
    (root / "none").mkdir()
    with pytest.raises(VitreousError, match=r"make them with `vitreous mask`$"):
        Unlabelled(str(root / "images"), str(root / "none"), require_masks=False).load(0)


def test_masks_of_imagenet_s_are_class_numbers_in_two_channels(tmp_path):
    array = np.zeros((2, 3, 3), dtype=np.uint8)
    array[0, 0] = (200, 3, 0)  # class 968: overflows a byte if multiplied as one
    array[0, 1] = (1000 % 256, 1000 // 256, 0)  # ignore
    array[1, 2] = (0, 1, 0)  # class 256
    Image.fromarray(array).save(tmp_path / "m.png")
    expected = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    assert torch.equal(read_mask(tmp_path / "m.png", "imagenet_s"), expected)


def write_imagenet_s(root: Path, wnids: list[str], per_class: int) -> None:
    mask = np.zeros((8, 8, 3), dtype=np.uint8)
    mask[2:5, 2:5] = (7, 2, 0)
    for wnid in wnids:
        for index in range(per_class):
            for folder, suffix in (("images", "JPEG"), ("masks", "png")):
                path = root / folder / wnid / f"{wnid}_{index}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(path)


def test_the_papers_selection_leaves_out_merged_classes_and_is_the_same_everywhere(tmp_path):
    wnids = ImageNetInfo().label_names()[:12] + MERGED[:2]
    write_imagenet_s(tmp_path, wnids, 4)
    source = ImageNetS(str(tmp_path / "images"), str(tmp_path / "masks"), classes=7, per_class=3)
    split = source.load(seed=5)
    train, validation = names(split.train), names(split.validation)
    assert len(train) == 21 and len(validation) == 5
    assert not {n[:9] for n in train + validation} & set(MERGED)
    assert not {n[:9] for n in train} & {n[:9] for n in validation}
    assert split.note["train"] == train and split.note["left_out"] == MERGED
    index = ImageNetInfo().label_names()
    assert [index[split.train[i].label] for i in range(21)] == [n[:9] for n in train]
    assert split.train[0].mask.sum() == 9
    assert source.load(seed=6).note == split.note  # the run's seed plays no part
    moved = ImageNetS(source.images, source.masks, classes=7, per_class=3, split_seed=1)
    assert moved.load(0).note != split.note
    with pytest.raises(VitreousError, match="expected at least 500 classes with masks, found 12"):
        ImageNetS(source.images, source.masks).load(0)


def test_the_selection_does_not_depend_on_the_order_of_folders():
    table = {f"n{k}": [Path(f"n{k}/{i}") for i in range(5)] for k in range(9)}
    backwards = {k: v[::-1] for k, v in reversed(table.items())}
    assert select(table, 4, 3, 0) == select(backwards, 4, 3, 0)


def test_views_move_picture_and_mask_together():
    generator = np.random.default_rng(0)
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[10:40, 30:60] = 255
    sample = Image.fromarray(np.stack([mask] * 3, -1))
    transforms = [
        Resize(48, mask_interpolation="nearest", interpolation="nearest"),
        RandomCrop(40),
        Flip(),
        RandomResizedCrop(32, scale=(0.5, 1.0), interpolation="nearest"),
        CenterCrop(30),
    ]
    view = compose(transforms)
    for seed in generator.integers(0, 1000, 8).tolist():
        torch.manual_seed(seed)
        image, moved = view(sample, torch.from_numpy(mask / 255.0)[None])
        assert image.shape == (3, 30, 30) and moved.shape == (1, 30, 30)
        assert type(image) is torch.Tensor and not isinstance(moved, tv_tensors.TVTensor)
        assert (image[0] - moved[0]).abs().mean() < 0.02


def test_bilinear_masks_keep_fractional_edges_and_nearest_does_not():
    mask = torch.zeros(1, 9, 9)
    mask[:, 3:6, 3:6] = 1
    image = Image.new("RGB", (9, 9))
    soft = compose([Resize(7, mask_interpolation="bilinear")])(image, mask)[1]
    hard = compose([Resize(7)])(image, mask)[1]
    assert ((soft > 0) & (soft < 1)).any() and set(hard.unique().tolist()) == {0.0, 1.0}


def test_random_choices_depend_on_seed_epoch_and_picture_alone(root):
    items = Folders(str(root / "images"), validation_share=0.0).load(0).train
    data = TransformedDataset(items, compose([RandomCrop(20), Flip()]), seed=3)
    one = data[(2, 5)]["images"]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(data[(2, 5)]["images"], one)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(data[(3, 5)]["images"], one)


def test_each_picture_is_in_each_epoch_once():
    first, second = (epoch_batches(10, 4, 0, epoch) for epoch in (0, 1))
    assert [len(b) for b in first] == [4, 4, 2]
    for batches in (first, second):
        assert sorted(i for batch in batches for i in batch) == list(range(10))
    assert first != second and epoch_batches(10, 4, 0, 0) == first
