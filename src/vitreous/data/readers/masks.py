"""Masks in a folder of their own, matched with images by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath

from vitreous.data.dataset import Dataset
from vitreous.data.listing import left_out, list_files, texts
from vitreous.data.mask_files import MaskFormat
from vitreous.data.matching import match_names
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
    """Find masks by the names of the images, as `vitreous.data.matching` says.

    The image `a/b.jpg` has the mask `masks/a/b.*`, or one with fewer folders (`masks/b.*`, if no
    other folder has a `b`), or with more above them. Masks that the dataset has already stay where
    the folder has none.

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
    names = [dataset.name(index) for index in range(len(dataset))]
    matches = match_names([_below(name, base) for name in names], texts(files), paths=names)
    matched = ["" if place is None else files[place] for place in matches.places]
    problems, missing = [], []
    for index, (name, file) in enumerate(zip(names, matched)):
        if not file and (dataset.masks is None or not dataset.masks.has(index)):
            missing.append(name)
            problems.append(matches.problems[index])
    none = len(missing) == len(dataset)
    if missing and (require or none):
        first = f"{missing[0]} ({problems[0]})" if problems[0] else missing[0]
        raise VitreousError(
            f"{len(missing)} of {len(dataset)} pictures have no mask in {masks}, the first is "
            f"{first}; make them with `vitreous mask`"
            + ("" if none else ", or set data.require_masks false")
        )
    doubtful = [name for name, problem in zip(missing, problems) if problem]
    passed = left_out(
        {
            f"images without a mask in {masks}": sorted({*missing} - {*doubtful}),
            f"images without a clear mask in {masks}": doubtful,
            "masks without an image": sorted(files[place] for place in matches.lost),
        }
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
