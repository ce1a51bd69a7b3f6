"""The one form of masks on disk: PNG files of 0 and 255, and a manifest; resumable.

`OUT/a/b.png` is the mask of `IMAGES/a/b.jpg`, so training finds it. What is dropped lies, as a
picture too, in `OUT/_quality/dropped/`; the manifest says why.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitreous import config
from vitreous.errors import VitreousError
from vitreous.io import atomic_path, finite, read_json, write_json
from vitreous.masks.base import MASK_METHODS, Found, Item, MaskError, MaskMethod, find_masks
from vitreous.masks.quality import Filters, measure

EXTRAS = "_quality"
# What `vitreous.io.atomic_path` writes to before it renames: `.NAME.SUFFIX.RANDOM.SUFFIX`.
HALF_WRITTEN = re.compile(r"\..+\.(png|json|jsonl|csv|html)\.[a-z0-9_]{8}\.\1")


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the manifest.

    Attributes:
        name: Relative path without suffix.
        image: The picture's path, empty where there is none.
        mask: The mask's path within the folder, empty where none could be made.
        source: What it was read from.
        method: The mask method.
        kept: Whether it passed the filters.
        dropped: Why not, in one line.
        note: What was odd about it.
        width: Pixels.
        height: Pixels.
        area: Share of the picture.
        pixels: Foreground pixels at 224×224.
        border: Share of the outermost pixels.
        components: Connected parts.
        largest: Share of the foreground in the largest part.
        agreement: IoU with the second method.
        quality: Order of the contact sheet, 0 = worst.
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


@dataclasses.dataclass(frozen=True)
class MaskFolder:
    """A folder of masks.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def manifest(self) -> Path:
        """The manifest: one JSON object a line, in the order in which masks were made."""
        return self.path / "manifest.jsonl"

    def rows(self) -> list[Row]:
        """Read the manifest; a last line that a killed run left half-written does not count."""
        if not self.manifest.is_file():
            return []
        rows: dict[str, Row] = {}
        lines = self.manifest.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines[:-1], 1):
            try:
                row = Row(**json.loads(line))
            except (json.JSONDecodeError, TypeError) as error:
                raise VitreousError(
                    f"{self.manifest}, line {number} is not a row: {error}"
                ) from error
            rows[row.name] = row
        return list(rows.values())

    def kept(self) -> list[Row]:
        """The rows whose masks passed the filters."""
        return [row for row in self.rows() if row.kept]

    def file(self, row: Row) -> Path:
        """The mask file of a row."""
        return self.path / row.mask


def write_masks(
    source: MaskMethod,
    images: Path | None,
    out: Path,
    *,
    filters: Filters | None = None,
    second: MaskMethod | None = None,
    batch_size: int = 8,
    restart: bool = False,
) -> MaskFolder:
    """Make masks of all pictures of a folder.

    Killed and run again, it goes on where it was; other settings in the same folder are refused.

    Args:
        source: Where masks come from.
        images: Folder of the pictures; None for sources that hold their own.
        out: Where masks and manifest go.
        filters: Which masks are dropped; the paper's rule where not given.
        second: A second method whose agreement is measured; its masks are not written.
        batch_size: Pictures in one call of the source.
        restart: Delete what an earlier run wrote there, and begin anew.

    Raises:
        VitreousError: If there is nothing to do, or the folder holds masks of other settings.
    """
    from tqdm import tqdm

    folder, filters = MaskFolder(out), filters or Filters()
    items = source.items(images)
    others = {item.name: item for item in second.items(images)} if second is not None else {}
    if restart:
        _clear(folder)
    _remember(folder, source, second, filters)
    rows = {row.name: row for row in folder.rows()}
    todo = [item for item in items if item.name not in rows]
    _tidy(folder)
    kept = sum(row.kept for row in rows.values())
    with tqdm(total=len(items), initial=len(items) - len(todo), unit="mask", disable=None) as bar:
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            seconds = _second(second, others, batch)
            made = [
                _keep(folder, item, found, other, MASK_METHODS.name_of(source), filters)
                for item, found, other in zip(batch, find_masks(source, batch), seconds)
            ]
            with folder.manifest.open("a", encoding="utf-8") as manifest:
                manifest.writelines(_line(row) for row in made)
            kept += sum(row.kept for row in made)
            bar.update(len(batch))
            bar.set_postfix(kept=kept)
    _write_tables(folder, images)
    return folder


def _second(
    source: MaskMethod | None, items: dict[str, Item], batch: Sequence[Item]
) -> Sequence[Found | MaskError | None]:
    """The second method's masks of a batch; its own items say where they are read from."""
    if source is None:
        return [None] * len(batch)
    known = [items[item.name] for item in batch if item.name in items]
    found = dict(zip((item.name for item in known), find_masks(source, known)))
    return [found.get(item.name, MaskError("it does not know this picture")) for item in batch]


def _keep(
    folder: MaskFolder,
    item: Item,
    found: Found | MaskError,
    second: Found | MaskError | None,
    method: str,
    filters: Filters,
) -> Row:
    row = Row(item.name, str(item.image or ""), "", str(item.source), method, kept=False)
    if isinstance(found, MaskError):
        return dataclasses.replace(row, dropped=str(found))
    other = second.mask if isinstance(second, Found) else None
    if isinstance(second, MaskError) or (other is not None and other.shape != found.mask.shape):
        why = str(second) if isinstance(second, MaskError) else "its mask is of another size"
        return dataclasses.replace(row, dropped=f"the second method has no mask: {why}")
    quality = measure(found.mask, other)
    reason = filters.reason(quality)
    mask = f"{EXTRAS}/dropped/{item.name}.png" if reason else f"{item.name}.png"
    write_mask(found.mask, folder.path / mask)
    return dataclasses.replace(
        row,
        mask=mask,
        kept=not reason,
        dropped=reason,
        note=found.note,
        width=found.mask.shape[1],
        height=found.mask.shape[0],
        quality=round(quality.score, 4),
        **{
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in dataclasses.asdict(quality).items()
        },
    )


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write a mask (H, W) bool as a grey PNG of 0 and 255, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(mask.astype(np.uint8) * 255).save(temporary)


def _line(row: Row) -> str:
    return json.dumps(finite(dataclasses.asdict(row)), ensure_ascii=False) + "\n"


def _remember(
    folder: MaskFolder, source: MaskMethod, second: MaskMethod | None, filters: Filters
) -> None:
    """Store the settings with the masks, or refuse to mix two."""

    def describe(part: MaskMethod | None) -> Any:
        return part and {"method": MASK_METHODS.name_of(part), **config.plain(part)}

    settings = {
        "source": describe(source),
        "second": describe(second),
        "filters": config.plain(filters),
    }
    file = folder.path / EXTRAS / "settings.json"
    plain = json.loads(json.dumps(settings))
    made = folder.manifest.is_file()
    if made and file.is_file() and (before := read_json(file)) != plain:
        changed = [key for key in plain if before.get(key) != plain[key]]
        raise VitreousError(
            f"{folder.path} holds masks made with another {changed[0]}; choose another --out, or "
            "--restart to delete them and begin anew"
        )
    if made and not file.is_file():
        raise VitreousError(
            f"{folder.manifest} was written by something else; choose another --out"
        )
    write_json(file, plain)


def _clear(folder: MaskFolder) -> None:
    """Delete what the manifest lists, and nothing else."""
    for row in folder.rows():
        if row.mask:
            folder.file(row).unlink(missing_ok=True)
    folder.manifest.unlink(missing_ok=True)
    shutil.rmtree(folder.path / EXTRAS, ignore_errors=True)


def _tidy(folder: MaskFolder) -> None:
    """Remove what a killed run left half-written: files, and the manifest's last line."""
    for path in folder.path.rglob(".*"):
        if HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if folder.manifest.is_file():
        content = folder.manifest.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with atomic_path(folder.manifest) as temporary:
                temporary.write_bytes(whole)


def _write_tables(folder: MaskFolder, images: Path | None) -> None:
    rows = folder.rows()
    names = [field.name for field in dataclasses.fields(Row)]
    _write_csv(folder.path / "manifest.csv", names, [dataclasses.asdict(row) for row in rows])
    kept = [row for row in rows if row.kept and "/" in row.name and row.image]
    if images is not None and kept:
        table = [
            {
                "path": Path(row.image).resolve(),
                "label": row.name.split("/")[0],
                "mask": folder.file(row).resolve(),
            }
            for row in sorted(kept, key=lambda row: row.name)
        ]
        _write_csv(folder.path / "kept.csv", ["path", "label", "mask"], table)


def _write_csv(path: Path, names: Sequence[str], rows: list[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows(rows)
