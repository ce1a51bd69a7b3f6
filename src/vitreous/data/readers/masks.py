"""Masks in a folder of their own, matched with images by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath

from vitreous.data.dataset import Dataset
from vitreous.data.listing import left_out, list_files, texts
from vitreous.data.mask_files import MaskFormat
from vitreous.data.stores import FileMasks
from vitreous.data.stores.joined import FirstMasks
from vitreous.errors import VitreousError


def with_masks(
    dataset: Dataset,
    masks: Path,
    mask_format: MaskFormat = "binary",
    *,
    require: bool = False,
    base: Path | None = None,
) -> Dataset:
    """Find for the image `a/b.jpg` the mask `masks/a/b.*`, else `masks/b.*`.

    Masks that the dataset has already stay where the folder has none.

    Args:
        dataset: The images.
        masks: The folder.
        mask_format: How mask files are read.
        require: Refuse images without a mask.
        base: Folder below which the masks' folders are those of the images, for names that are
            absolute paths.

    Returns:
        The dataset with its masks; images without a mask and masks without an image are named.

    Raises:
        VitreousError: If the folder is missing, no image has a mask, or one has none and
            `require` is set.
    """
    if not masks.is_dir():
        raise VitreousError(f"no folder of masks at {masks}")
    # Folders that begin with _ hold by-products of `vitreous mask`: dropped masks, sheets.
    files = [name for name in list_files(masks).images if not name.startswith("_")]
    table = {_stem(text): file for text, file in zip(texts(files), files)}
    matched, missing = [], []
    for index in range(len(dataset)):
        name = dataset.name(index)
        stem = _stem(_below(name, base))
        file = table.get(stem) or table.get(stem.rsplit("/", 1)[-1], "")
        matched.append(file)
        if not file and (dataset.masks is None or not dataset.masks.has(index)):
            missing.append(name)
    none = len(missing) == len(dataset)
    if missing and (require or none):
        raise VitreousError(
            f"{len(missing)} of {len(dataset)} pictures have no mask in {masks}, the first is "
            f"{missing[0]}; make them with `vitreous mask`"
            + ("" if none else ", or set data.require_masks false")
        )
    lost = sorted(set(files) - set(matched))
    passed = left_out(
        {f"images without a mask in {masks}": missing, "masks without an image": lost}
    )
    store = FileMasks(masks, matched, mask_format)
    return dataclasses.replace(
        dataset,
        masks=store if dataset.masks is None else FirstMasks((store, dataset.masks)),
        left_out=(*dataset.left_out, *passed),
    )


def _below(name: str, base: Path | None) -> str:
    path = PurePosixPath(name)
    if base is None or not path.is_relative_to(base.as_posix()):
        return name
    return path.relative_to(base.as_posix()).as_posix()


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()
