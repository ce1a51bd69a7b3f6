"""Images and masks in a column of Parquet or Arrow files, as they are there."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from vitreous.data.images import decode_image
from vitreous.data.mask_files import MaskFormat, decode_mask
from vitreous.data.stores.files import Names, file_content
from vitreous.errors import ImageError, VitreousError, require
from vitreous.io import file_stamp

KEPT_GROUPS = 2
EXTRA = "tables"
Arrow: TypeAlias = Any
"""What pyarrow makes: its modules say no types."""


class TableFile:
    """One Parquet or Arrow file; each process that reads it opens it anew.

    Arrow files are mapped into memory. Of a Parquet file the last row groups are kept, so that
    reading in order decodes each once; at random, each image costs its row group.

    Args:
        path: The file.

    Raises:
        VitreousError: If it is not intact.
    """

    def __init__(self, path: Path):
        self.path, self._process = path, -1
        self._open()

    @property
    def schema(self) -> Arrow:
        """The Arrow schema."""
        self._open()
        return self._schema

    def __len__(self) -> int:
        return int(self._starts[-1])

    def chunks(self, column: str) -> Iterator[Arrow]:
        """The values of a column, part by part; a dot leads into a struct."""
        self._open()
        for group in range(len(self._starts) - 1):
            yield self._read(group, column)

    def cell(self, column: str, row: int) -> Arrow:
        """One value: bytes, a text, a mapping, or None."""
        self._open()
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._part(group, column)[row - int(self._starts[group])].as_py()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_process": -1}

    def _open(self) -> None:
        if self._process == os.getpid():
            return
        arrow = require("pyarrow", EXTRA)
        self._groups: OrderedDict[tuple[int, str], Arrow] = OrderedDict()
        try:
            if self.path.suffix == ".parquet":
                self._file = require("pyarrow.parquet", EXTRA).ParquetFile(self.path)
                meta = self._file.metadata
                sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
                self._schema, self._table = self._file.schema_arrow, None
            else:
                self._table = _mapped(arrow, self.path)
                sizes, self._schema = [len(self._table)], self._table.schema
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise VitreousError(f"{self.path} is not intact: {_brief(error)}") from error
        self._starts = np.cumsum([0, *sizes])
        self._process = os.getpid()

    def _part(self, group: int, column: str) -> Arrow:
        key = (group, column)
        if key not in self._groups:
            self._groups[key] = self._read(group, column)
            while len(self._groups) > KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _read(self, group: int, column: str) -> Arrow:
        arrow = require("pyarrow", EXTRA)
        try:
            if self._table is None:
                whole = self._file.read_row_group(group, columns=[column], use_threads=False)
            else:
                whole = self._table
            first, *inner = column.split(".")
            values = whole.column(first)
            for name in inner:
                values = require("pyarrow.compute", EXTRA).struct_field(values, name)
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise ImageError(f"{self.path} cannot be read: {_brief(error)}") from error
        return values


def _mapped(arrow: Arrow, path: Path) -> Arrow:
    """Map an Arrow file, of the stream format (as `datasets` writes it) or the file format."""
    try:
        return arrow.ipc.open_stream(arrow.memory_map(str(path))).read_all()
    except arrow.ArrowInvalid:
        return arrow.ipc.open_file(arrow.memory_map(str(path))).read_all()


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class TableColumn:
    """One column over several files.

    Args:
        files: The files.
        column: Its name.
    """

    def __init__(self, files: Sequence[TableFile], column: str):
        self.files, self.column = tuple(files), column
        self._starts = np.cumsum([0, *map(len, files)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def where(self, index: int) -> tuple[TableFile, int]:
        """The file that holds a row, and its number there."""
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.files[file], index - int(self._starts[file])

    def content(self, index: int, name: str) -> bytes:
        """The bytes of a cell; of the file that it names, where it holds none.

        Raises:
            ImageError: If there are none, or they cannot be read.
        """
        file, row = self.where(index)
        value = file.cell(self.column, row)
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            return file_content(file.path.parent / value)
        if not value:
            raise ImageError(f"{name} is empty: row {row} of {file.path} holds no image")
        return value

    def stamp(self, index: int) -> tuple[int, ...]:
        """The row, and size and time of change of its file."""
        file, row = self.where(index)
        return (row, *file_stamp(file.path))


class TableImages:
    """Images in a column: bytes, structs of bytes and path, or paths.

    Args:
        column: The column.
        names: What each image is called.
    """

    def __init__(self, column: TableColumn, names: Sequence[str]):
        self._column, self._names = column, Names(names)

    def __len__(self) -> int:
        return len(self._column)

    def name(self, index: int) -> str:
        """The name that was given."""
        return self._names.text(index)

    def open(self, index: int) -> Image.Image:
        """Read an image as RGB, upright; raises `ImageError`."""
        return decode_image(io.BytesIO(self.content(index)), self.name(index))

    def stamp(self, index: int) -> tuple[int, ...]:
        """The row, and size and time of change of its file."""
        return self._column.stamp(index)

    def content(self, index: int) -> bytes:
        """The stored bytes; raises `ImageError`."""
        return self._column.content(index, self.name(index))


class TableMasks:
    """Masks in a column.

    Args:
        column: The column.
        present: (N,) bool: which images have a mask.
        mask_format: How they are read.
    """

    def __init__(self, column: TableColumn, present: np.ndarray, mask_format: MaskFormat):
        self._column, self._present, self.mask_format = column, present, mask_format

    def has(self, index: int) -> bool:
        """Whether an image has a mask."""
        return bool(self._present[index])

    def open(self, index: int) -> Tensor | None:
        """Read a mask (1, H, W) of 0 and 1; None where there is none; raises `ImageError`."""
        if not self.has(index):
            return None
        return decode_mask(io.BytesIO(self.content(index)), self._name(index), self.mask_format)

    def stamp(self, index: int) -> tuple[int, ...]:
        """The row, and size and time of change of its file; empty where there is no mask."""
        return self._column.stamp(index) if self.has(index) else ()

    def content(self, index: int) -> bytes:
        """The stored bytes; empty where there is no mask; raises `ImageError`."""
        return self._column.content(index, self._name(index)) if self.has(index) else b""

    def _name(self, index: int) -> str:
        file, row = self._column.where(index)
        return f"the mask in row {row} of {file.path}"
