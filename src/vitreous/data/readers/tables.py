"""CSV files: one row an image, with its label and maybe its mask and its group."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vitreous.data.dataset import UNKNOWN, Dataset
from vitreous.data.listing import in_order, left_out
from vitreous.data.mask_files import MaskFormat
from vitreous.data.stores import FileImages, FileMasks
from vitreous.errors import VitreousError, nearest, shorten
from vitreous.text import read_text

PATH_COLUMNS = ("path", "file", "filename", "image")
MASK_COLUMN = "mask"
INTEGER = re.compile("[0-9]{1,9}")
ANY_INTEGER = re.compile("[+-]?[0-9]+")
LONGEST_PART = 255


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what is not the image.

    Attributes:
        label: The class: its name or its number.
        group: The group, for accuracy by group; the column may be absent.
    """

    label: str = "label"
    group: str = "group"


def read_csv(
    path: Path,
    classes: Sequence[str] | None = None,
    *,
    columns: Columns | None = None,
    mask_format: MaskFormat = "binary",
) -> Dataset:
    """Read a table with the columns `path,label[,mask][,group]`; paths are relative to the file.

    The column of paths may also be called file, filename or image. Labels are class names, or
    numbers of classes where all of them are integers.

    Args:
        path: The CSV file: UTF-8, with a byte order mark or without.
        classes: Names of the classes, in the order of the labels.
        columns: What the columns are called.
        mask_format: How mask files are read.

    Raises:
        VitreousError: If it cannot be read, is not UTF-8, lacks a column, or a row is not as it
            should be (says which one, the header being row 1), or a class is unknown.
    """
    columns = columns or Columns()
    header, rows = read_rows(path)
    where = next((name for name in PATH_COLUMNS if name in header), None)
    if where is None or not rows:
        raise missing_columns(path, header if rows else [], columns)
    names = [_path(path, number, row[where]) for number, row in rows]
    masks = None
    if MASK_COLUMN in header:
        mask_files = [_path(path, n, row[MASK_COLUMN], empty=True) for n, row in rows]
        masks = FileMasks(path.parent, mask_files, mask_format)
    labels, class_names = np.full(len(rows), UNKNOWN), tuple(classes or ())
    if columns.label in header:
        texts = [_label(path, number, row[columns.label]) for number, row in rows]
        labels, class_names = number_labels(texts, classes, str(path))
    images = FileImages(path.parent, names)
    dataset = Dataset(images, labels.astype(np.int64), class_names, masks)
    if columns.group not in header:
        return dataset
    return with_groups(dataset, [row[columns.group] for _, row in rows])


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a CSV file: the names of its columns, and (number, row) of each row that is not blank.

    Rows are numbered as a spreadsheet does, the header being row 1.

    Raises:
        VitreousError: If it cannot be read, is not UTF-8, or a row is not as long as the header.
    """
    rows = _records(path, io.StringIO(read_text(path), newline=""))
    _, first = next(rows, (1, []))
    header = [" ".join(name.split()) for name in first]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise VitreousError(f"{path} has two columns called '{repeated[0]}'; rename one")
    table = []
    for number, row in rows:
        if len(row) != len(header):
            raise VitreousError(
                f"{path}: row {number} has {len(row)} fields, expected {len(header)} "
                f"({', '.join(header)})"
            )
        table.append((number, dict(zip(header, row))))
    return header, table


def _records(path: Path, file: io.StringIO) -> Iterator[tuple[int, list[str]]]:
    reader, number = csv.reader(file, strict=True), 0
    while True:
        number += 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = "a quote is not closed" if "end of data" in str(error) else str(error)
            raise VitreousError(f"{path}: row {number}: {why}") from error
        if row:
            yield number, row


def missing_columns(path: Path, header: Sequence[str], columns: Columns) -> VitreousError:
    """Make the error of a table that lacks a column."""
    return VitreousError(
        f"{path}: expected the columns path,{columns.label}[,mask][,{columns.group}], found "
        f"{', '.join(header) or 'no rows'}"
    )


def _path(file: Path, number: int, text: str, *, empty: bool = False) -> str:
    if not text and not empty:
        raise VitreousError(f"{file}: row {number} has no path")
    longest = max((len(part.encode()) for part in text.split("/")), default=0)
    if longest > LONGEST_PART:
        raise VitreousError(
            f"{file}: row {number} names a file of {longest} bytes; file systems take "
            f"{LONGEST_PART}"
        )
    return text


def _label(file: Path, number: int, text: str) -> str:
    if not text.strip():
        raise VitreousError(f"{file}: row {number} has no label")
    return text.strip()


def number_labels(
    texts: Sequence[str], classes: Sequence[str] | None, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn label texts into numbers.

    Args:
        texts: Class names; or numbers of classes, if all are integers and no names of `classes`.
        classes: Names of the classes in order, where they are given.
        where: What messages call the place.

    Returns:
        (N,) int64 labels, and the names of the classes (empty for numbers without names).

    Raises:
        VitreousError: For a label that is none of `classes`, and for whole numbers that number no
            class.
    """
    distinct = set(texts)
    named = classes is not None and distinct <= set(classes)
    if not named and all(INTEGER.fullmatch(text) for text in distinct):
        return np.array([int(text) for text in texts], dtype=np.int64), tuple(classes or ())
    if not named and all(ANY_INTEGER.fullmatch(text) for text in distinct):
        odd = min(text for text in distinct if not INTEGER.fullmatch(text))
        raise VitreousError(
            f"{where}: label {shorten(odd)} is no class: numbers of classes begin with 0 and are "
            "below 10⁹"
        )
    names = list(classes) if classes else in_order(distinct)
    unknown = in_order(distinct - set(names))
    if unknown:
        raise VitreousError(f"{where}: unknown class '{unknown[0]}'; {nearest(unknown[0], names)}")
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[text] for text in texts], dtype=np.int64), tuple(names)


def with_groups(dataset: Dataset, groups: Sequence[str]) -> Dataset:
    """Give a dataset its groups; an empty text is an unknown group."""
    texts = [text.strip() for text in groups]
    names = in_order(set(texts) - {""})
    places = {"": UNKNOWN, **{name: place for place, name in enumerate(names)}}
    numbers = np.array([places[text] for text in texts], dtype=np.int64)
    return dataclasses.replace(dataset, groups=numbers, group_names=tuple(names))


def with_group_file(dataset: Dataset, path: Path, column: str = "group") -> Dataset:
    """Take groups from a CSV file of their own, with the columns `path,group`.

    Args:
        dataset: The images; the file calls them by their names in it.
        path: The CSV file.
        column: Its column of groups.

    Returns:
        The dataset with its groups. Images that the file does not list have none, and they are
        named, as are rows without an image.

    Raises:
        VitreousError: If the file is not as it should be, or lists none of the images.
    """
    header, rows = read_rows(path)
    where = next((name for name in PATH_COLUMNS if name in header), None)
    if where is None or column not in header:
        raise VitreousError(
            f"{path}: expected the columns path,{column}, found {', '.join(header) or 'no rows'}"
        )
    groups = {row[where]: row[column] for _, row in rows}
    names = [dataset.name(index) for index in range(len(dataset))]
    if not groups.keys() & set(names):
        raise VitreousError(
            f"{path} lists none of the {len(names)} images; they are called like {names[0]}"
        )
    passed = left_out(
        {
            f"rows of {path.name} without an image": sorted(groups.keys() - set(names)),
            f"images without a group in {path.name}": sorted(set(names) - groups.keys()),
        }
    )
    grouped = with_groups(dataset, [groups.get(name, "") for name in names])
    return dataclasses.replace(grouped, left_out=(*dataset.left_out, *passed))
