"""Parquet files and Hugging Face `datasets` on disk: one row an image."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from vitreous.data.dataset import UNKNOWN, Dataset
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.tables import (
    MASK_COLUMN,
    PATH_COLUMNS,
    Columns,
    number_labels,
    with_groups,
)
from vitreous.data.stores.tables import (
    EXTRA,
    Arrow,
    TableColumn,
    TableFile,
    TableImages,
    TableMasks,
)
from vitreous.errors import VitreousError, require

IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "jpeg", "png", "webp", *PATH_COLUMNS)
SUFFIXES = (".parquet", ".arrow")
PART = re.compile(r"(.+?)-\d+-of-\d+")


def table_files(path: Path) -> list[Path]:
    """List the Parquet or Arrow files that a path means.

    That is one file; all of a folder, sorted by name; or `FOLDER/SPLIT`, where the folder holds
    `SPLIT-00000-of-00002.parquet` and so on.

    Raises:
        VitreousError: If the folder holds several splits; names them.
    """
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    if not path.exists():
        near = path.parent.glob("*") if path.parent.is_dir() else ()
        return sorted(f for f in near if f.suffix in SUFFIXES and _split(f) == path.name)
    if (path / "dataset_dict.json").is_file():
        splits = sorted(f.parent.name for f in path.glob("*/dataset_info.json"))
        raise _several(path, splits)
    files = sorted(f for f in path.glob("*") if f.suffix in SUFFIXES)
    splits = sorted({_split(file) for file in files})
    if len(splits) > 1 and all(splits):
        raise _several(path, splits)
    return files


def _split(file: Path) -> str:
    match = PART.fullmatch(file.stem)
    return match.group(1) if match else ""


def _several(path: Path, splits: Sequence[str]) -> VitreousError:
    return VitreousError(
        f"{path} holds the splits {', '.join(splits) or '(none)'}; give one of them, for example "
        f"{path}/{splits[0] if splits else 'train'}"
    )


def read_tables(
    files: Sequence[Path],
    classes: Sequence[str] | None = None,
    *,
    columns: Columns | None = None,
    mask_format: MaskFormat = "binary",
) -> Dataset:
    """Read Parquet or Arrow files with a column of images: bytes, or structs of bytes and path.

    Labels may be numbers (with the names that `datasets` stores, if it does) or class names; a
    column `mask` holds images too, or nothing where an image has none.

    Args:
        files: The files.
        classes: Names of the classes, in the order of the labels.
        columns: What the columns are called.
        mask_format: How masks are read.

    Raises:
        VitreousError: If a file is not intact, or lacks a column of images.
    """
    tables = [TableFile(file) for file in files]
    schema, columns = tables[0].schema, columns or Columns()
    for table in tables[1:]:
        if table.schema.names != schema.names:
            raise VitreousError(f"{table.path} has other columns than {tables[0].path}")
    features = _features(schema)
    image = _image_column(schema.names, features)
    if image is None:
        raise VitreousError(
            f"{tables[0].path}: expected a column of images (image, label[, mask][, group]), "
            f"found {', '.join(schema.names) or 'none'}"
        )
    images = TableImages(TableColumn(tables, image), _names(tables, image))
    masks = None
    if MASK_COLUMN in schema.names:
        present = np.concatenate([_present(table, MASK_COLUMN) for table in tables])
        masks = TableMasks(TableColumn(tables, MASK_COLUMN), present, mask_format)
    labels, names = _labels(tables, features, columns.label, classes)
    dataset = Dataset(images, labels, names, masks)
    if columns.group not in schema.names:
        return dataset
    return with_groups(dataset, ["" if v is None else str(v) for v in _all(tables, columns.group)])


class Feature(TypedDict, total=False):
    """What `datasets` stores of a column: its type, and the names of classes."""

    _type: str
    names: list[str]


def _features(schema: Arrow) -> dict[str, Feature]:
    """What `datasets` stored of its columns: name → type and class names."""
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stored["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {k: v for k, v in features.items() if isinstance(v, dict)}


def _image_column(names: Sequence[str], features: dict[str, Feature]) -> str | None:
    typed = [
        n
        for n in names
        if n in features and features[n].get("_type") == "Image" and n != MASK_COLUMN
    ]
    named = [n for n in IMAGE_COLUMNS if n in names]
    return next(iter((*typed, *named)), None)


def _names(tables: Sequence[TableFile], column: str) -> list[str]:
    """The images' own paths, if all have one and none occurs twice; else file and row."""
    kind = tables[0].schema.field(column).type
    types = require("pyarrow", EXTRA).types
    where = column if types.is_string(kind) else f"{column}.path"
    if where == column or (types.is_struct(kind) and kind.get_field_index("path") >= 0):
        own = _all(tables, where)
        if all(own) and len(set(own)) == len(own):
            return [str(name) for name in own]
    return [f"{table.path.name}/{row}" for table in tables for row in range(len(table))]


def _all(tables: Sequence[TableFile], column: str) -> list[object]:
    return [v for table in tables for part in table.chunks(column) for v in part.to_pylist()]


def _present(table: TableFile, column: str) -> np.ndarray:
    parts = [np.zeros(0, bool)]
    for values in table.chunks(column):
        cells = (
            value.get("bytes") or value.get("path") if isinstance(value, dict) else value
            for value in values.to_pylist()
        )
        parts.append(np.array([bool(cell) for cell in cells], dtype=bool))
    return np.concatenate(parts)


def _labels(
    tables: Sequence[TableFile],
    features: dict[str, Feature],
    column: str,
    classes: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    typed = [n for n, f in features.items() if f.get("_type") == "ClassLabel"]
    if column not in tables[0].schema.names and len(typed) == 1:
        column = typed[0]
    if column not in tables[0].schema.names:
        count = sum(map(len, tables))
        return np.full(count, UNKNOWN, dtype=np.int64), tuple(classes or ())
    names = (features[column].get("names") or []) if column in features else []
    values = [UNKNOWN if v is None else v for v in _all(tables, column)]
    if not names:
        texts = [str(v) for v in values]
        known = [text for text in texts if text != str(UNKNOWN)]
        numbers, found = number_labels(known, classes, str(tables[0].path))
        labels = np.full(len(texts), UNKNOWN, dtype=np.int64)
        labels[[text != str(UNKNOWN) for text in texts]] = numbers
        return labels, found
    return _named(np.array(values, dtype=np.int64), names, classes, tables[0].path)


def _named(
    labels: np.ndarray, names: Sequence[str], classes: Sequence[str] | None, path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels.max(initial=UNKNOWN) >= len(names) or labels.min(initial=UNKNOWN) < UNKNOWN:
        raise VitreousError(f"{path}: a label is none of its {len(names)} class names")
    if classes is None or list(classes) == list(names):
        return labels, tuple(names)
    used = [names[i] for i in np.unique(labels) if i >= 0]
    numbers, _ = number_labels(used, list(classes), str(path))
    table = np.full(len(names) + 1, UNKNOWN, dtype=np.int64)
    table[[names.index(name) for name in used]] = numbers
    return table[labels], tuple(classes)
