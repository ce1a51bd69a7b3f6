"""Class folders, nested or not, and folders of images without classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitreous.data.dataset import UNKNOWN, Dataset
from vitreous.data.listing import NO_IMAGES, Listing, in_order, left_out, list_files, texts
from vitreous.data.stores import FileImages
from vitreous.errors import VitreousError, nearest


def read_folders(root: Path, classes: Sequence[str] | None = None) -> Dataset:
    """List `root/CLASS/**/image`, or `root/image` where there are no class folders.

    Args:
        root: The folder.
        classes: Names of the class folders, in the order of the labels; by default those that
            hold images, sorted (integers by their values).

    Returns:
        The images, class by class and sorted; without class folders their labels are -1.

    Raises:
        VitreousError: If there is no such folder or no image, or a class is missing or unknown.
    """
    if not root.is_dir():
        raise VitreousError(f"no folder at {root}; expected one folder a class in it")
    listing = list_files(root)
    own = [name for name in listing.images if "/" not in name]
    by_class: dict[str, list[str]] = {name: [] for name in listing.folders}
    for name in listing.images:
        if "/" in name:
            by_class[name.split("/", 1)[0]].append(name)
    if not any(by_class.values()):
        return _unlabelled(root, listing, own, classes)
    by_class = dict(zip(texts(by_class), by_class.values()))
    names = _classes(root, by_class, classes)
    files = [file for name in names for file in by_class[name]]
    labels = np.repeat(np.arange(len(names)), [len(by_class[name]) for name in names])
    passed = left_out(
        {
            NO_IMAGES: listing.others,
            "hidden files": listing.hidden,
            "images in no class folder": own,
            "folders without images": [name for name in by_class if not by_class[name]],
        }
    )
    return Dataset(FileImages(root, files), labels, tuple(names), left_out=passed)


def _classes(
    root: Path, by_class: dict[str, list[str]], classes: Sequence[str] | None
) -> list[str]:
    present = in_order(name for name, files in by_class.items() if files)
    if classes is None:
        return present
    unknown = [name for name in present if name not in set(classes)]
    if unknown:
        raise VitreousError(f"{root}: unknown class '{unknown[0]}'; {nearest(unknown[0], classes)}")
    missing = [name for name in classes if name not in set(present)]
    if missing:
        raise VitreousError(
            f"{root} lacks {len(missing)} of {len(classes)} class folders, first '{missing[0]}'"
        )
    return list(classes)


def _unlabelled(
    root: Path, listing: Listing, files: list[str], classes: Sequence[str] | None
) -> Dataset:
    if classes is not None or not files:
        raise VitreousError(f"{root} holds no class folders; expected {root}/CLASS/picture.jpg")
    labels = np.full(len(files), UNKNOWN, dtype=np.int64)
    return Dataset(FileImages(root, files), labels, left_out=listing.left_out())
