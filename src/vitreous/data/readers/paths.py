"""One way to read a dataset: what a path is decides how."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vitreous.data.dataset import Dataset
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.arrow import read_tables, table_files
from vitreous.data.readers.folders import read_folders
from vitreous.data.readers.masks import with_masks
from vitreous.data.readers.shards import read_shards, tar_shards
from vitreous.data.readers.tables import Columns, missing_columns, read_csv, read_rows
from vitreous.errors import VitreousError
from vitreous.io import check_path

EXPECTED = "a folder of class folders, a CSV file (path,label), tar shards, Parquet or Arrow files"


def read_dataset(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    *,
    masks: str | os.PathLike[str] | None = None,
    mask_format: MaskFormat = "binary",
    require_masks: bool = False,
    labelled: bool = False,
    columns: Columns | None = None,
) -> Dataset:
    """Read a dataset: class folders, a CSV file, tar shards, or Parquet or Arrow files.

    Args:
        path: The folder or file.
        classes: Names of the classes, in the order of the labels; what is there decides by default.
        masks: A folder of masks, matched by name; see `with_masks`.
        mask_format: How masks are read.
        require_masks: Refuse images without a mask, where `masks` is given.
        labelled: Refuse images without a label.
        columns: What the columns of a table are called.

    Raises:
        VitreousError: If it cannot be read, holds no images, or lacks what is required.
    """
    for given in (path, masks):
        if given is not None:
            check_path(given, "a dataset" if given is path else "masks")
    place = Path(path).expanduser()
    dataset = _read(place, classes, mask_format, columns)
    if labelled and (dataset.labels < 0).any():
        raise _unlabelled(place, columns or Columns())
    if masks is None:
        return dataset
    base = place if place.is_dir() else place.parent
    folder = Path(masks).expanduser()
    return with_masks(dataset, folder, mask_format, require=require_masks, base=base)


def _read(
    place: Path, classes: Sequence[str] | None, mask_format: MaskFormat, columns: Columns | None
) -> Dataset:
    if place.suffix.lower() == ".csv":
        return read_csv(place, classes, columns=columns, mask_format=mask_format)
    if shards := tar_shards(place):
        return read_shards(shards, classes, columns=columns, mask_format=mask_format)
    if files := table_files(place):
        return read_tables(files, classes, columns=columns, mask_format=mask_format)
    if place.is_file():
        raise VitreousError(f"{place} is a file of an unknown kind; expected {EXPECTED}")
    return read_folders(place, classes)


def _unlabelled(place: Path, columns: Columns) -> VitreousError:
    if place.suffix.lower() == ".csv":
        return missing_columns(place, read_rows(place)[0], columns)
    if table_files(place):
        return VitreousError(f"{place} holds no labels; expected a column {columns.label}")
    if tar_shards(place):
        return VitreousError(f"{place} holds no labels; expected .cls beside each image")
    return VitreousError(f"{place} holds no class folders; expected {place}/CLASS/picture.jpg")
