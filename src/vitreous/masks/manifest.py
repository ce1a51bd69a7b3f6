"""The manifest of a folder of masks: one row an image, as JSON lines and as tables.

A manifest may come from others: its rows are checked when they are read, and what they name lies
in the folder or is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from vitreous.errors import VitreousError, shorten
from vitreous.io import append_text, atomic_path, finite, inside, json_text, write_csv


@dataclasses.dataclass(frozen=True)
class ManifestRow:
    """One row of the manifest.

    Attributes:
        name: Relative path without suffix.
        image: The image's path, empty where there is none.
        mask: The mask's path within the folder, empty where none could be made.
        source: What it was read from.
        method: The mask method.
        kept: Whether it passed the filters.
        dropped: Why not, in one line.
        note: What was odd about it.
        width: Pixels.
        height: Pixels.
        area: Share of the image.
        pixels: Foreground pixels at 224×224.
        border: Share of the outermost pixels.
        components: Connected parts.
        largest: Share of the foreground in the largest part.
        agreement: IoU with the second method.
        quality: Order of the contact sheet, 0 = worst.
        digest: Of the mask's pixels; empty in manifests of before there were digests.
        stamp: Sizes and times of change of image and source when the mask was made.
    """

    name: str
    image: str
    mask: str
    source: str
    method: str
    kept: bool
    dropped: str = ""
    note: str = ""
    width: int = 0
    height: int = 0
    area: float = 0.0
    pixels: float = 0.0
    border: float = 0.0
    components: int = 0
    largest: float = 0.0
    agreement: float | None = None
    quality: float = 0.0
    digest: str = ""
    stamp: str = ""


PART = ".vitreous-rows-"
TEXTS = ("name", "image", "mask", "source", "method", "dropped", "note", "digest", "stamp")
NUMBERS = ("width", "height", "area", "pixels", "border", "components", "largest", "quality")


@dataclasses.dataclass(frozen=True)
class MaskFolder:
    """A folder of masks.

    Attributes:
        path: The folder.

    Examples:
        >>> import tempfile
        >>> folder = MaskFolder(Path(tempfile.mkdtemp()))
        >>> folder.manifest.name, folder.rows()
        ('manifest.jsonl', [])
    """

    path: Path

    @property
    def manifest(self) -> Path:
        """The manifest: one JSON object a line, in the order in which masks were made."""
        return self.path / "manifest.jsonl"

    def rows(self) -> list[ManifestRow]:
        """Read the manifest; a last line that a killed run left half-written does not count.

        Raises:
            VitreousError: If a line is no row, or names a mask outside of the folder.
        """
        rows: dict[str, ManifestRow] = {}
        for number, line in enumerate(self._lines(), 1):
            try:
                row = _checked(_row(json.loads(line)))
            except (ValueError, TypeError, RecursionError) as error:
                raise VitreousError(
                    f"{self.manifest}, line {number} is not a row: {error}"
                ) from error
            if row.mask:
                inside(self.path, row.mask, self.manifest)
            rows[row.name] = row
        return list(rows.values())

    def _lines(self) -> list[str]:
        if not self.manifest.is_file():
            return []
        try:
            return self.manifest.read_text(encoding="utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise VitreousError(f"{self.manifest} cannot be read: {error}") from error

    def kept(self) -> list[ManifestRow]:
        """The rows whose masks passed the filters."""
        return [row for row in self.rows() if row.kept]

    def file(self, row: ManifestRow) -> Path:
        """The mask file of a row; raises `VitreousError` if it does not lie in the folder."""
        return inside(self.path, row.mask, self.manifest)

    def append(self, rows: Sequence[ManifestRow], rank: int = 0) -> None:
        """Add rows; one of a name that is there takes the old one's place.

        Args:
            rows: The rows.
            rank: Of the process; what others than the first add lies apart until `gather`.
        """
        file = self.path / f"{PART}{rank}.jsonl" if rank else self.manifest
        append_text(file, "".join(map(_line, rows)))

    def gather(self) -> None:
        """Take up what other processes than the first added, also those of a killed run."""
        for file in sorted(self.path.glob(f"{PART}*.jsonl")):
            whole = file.read_text(encoding="utf-8").rpartition("\n")
            append_text(self.manifest, whole[0] + whole[1])
            file.unlink()

    def compact(self) -> None:
        """Leave out lines that others took the place of, and a last one that is cut short."""
        if not self.manifest.is_file():
            return
        rows = self.rows()
        content = self.manifest.read_bytes()
        if len(rows) != content.count(b"\n") or not content.endswith(b"\n"):
            with atomic_path(self.manifest) as temporary:
                temporary.write_text("".join(map(_line, rows)), encoding="utf-8")

    def write_tables(self, labelled: bool) -> None:
        """Write `manifest.csv`, and `kept.csv` where images lie in class folders.

        Args:
            labelled: Whether the first folder of a name is a class.
        """
        rows = self.rows()
        names = [field.name for field in dataclasses.fields(ManifestRow)]
        write_csv(self.path / "manifest.csv", names, (dataclasses.astuple(row) for row in rows))
        kept = [row for row in rows if row.kept and "/" in row.name and Path(row.image).is_file()]
        if labelled and kept:
            table = [
                (Path(row.image).resolve(), row.name.split("/")[0], self.file(row).resolve())
                for row in sorted(kept, key=lambda row: row.name)
            ]
            write_csv(self.path / "kept.csv", ["path", "label", "mask"], table)


def _line(row: ManifestRow) -> str:
    return json_text(finite(dataclasses.asdict(row))) + "\n"


def _row(values: object) -> ManifestRow:
    """A row of the keys that it has; raises TypeError for others, or where some are missing."""
    if not isinstance(values, dict):
        raise TypeError(f"expected an object, found {shorten(values)}")
    fields = dataclasses.fields(ManifestRow)
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    if missing := sorted(needed - values.keys()):
        raise TypeError(f"it has no '{missing[0]}'")
    if unknown := sorted(values.keys() - {field.name for field in fields}):
        raise TypeError(f"it has an unknown key '{shorten(unknown[0])}'")
    return ManifestRow(**values)


def _checked(row: ManifestRow) -> ManifestRow:
    for name in TEXTS:
        if not isinstance(getattr(row, name), str):
            raise TypeError(f"{name} is {getattr(row, name)!r}, expected a text")
    for name in NUMBERS:
        value = getattr(row, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} is {value!r}, expected a number")
    if not isinstance(row.kept, bool) or not isinstance(row.agreement, int | float | None):
        raise TypeError("expected true or false for kept, a number or null for agreement")
    return row
