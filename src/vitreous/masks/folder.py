"""The one form of masks on disk: PNG files of 0 and 255, and a manifest; resumable.

`OUT/a/b.png` is the mask of `IMAGES/a/b.jpg`, so training finds it. What is dropped lies, as an
image too, in `OUT/_quality/dropped/`; the manifest says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vitreous import config
from vitreous.config import Values
from vitreous.errors import VitreousError
from vitreous.folders import check_folder, claim_folder
from vitreous.io import atomic_path, file_stamp, inside, read_json, write_json
from vitreous.locks import folder_lock
from vitreous.masks.base import (
    MASK_METHODS,
    Found,
    MaskError,
    MaskItem,
    MaskMethod,
    OfModel,
    find_masks,
)
from vitreous.masks.manifest import ManifestRow, MaskFolder
from vitreous.masks.quality import Filters, measure
from vitreous.processes import ALONE, Processes
from vitreous.progress import ProgressBar

logger = logging.getLogger(__name__)
EXTRAS = "_quality"
OWN_FILES = ("settings.json", "sheet.png", "sheet.html")
# The PNG text that says that a mask is ours, and of which pixels.
SIGN = "vitreous-mask"


def write_masks(
    source: MaskMethod,
    images: Path | None,
    out: Path,
    *,
    filters: Filters | None = None,
    second: MaskMethod | None = None,
    batch_size: int = 8,
    restart: bool = False,
    overwrite: bool = False,
    processes: Processes = ALONE,
) -> MaskFolder:
    """Make masks of all images of a folder.

    Killed and run again, it goes on where it was; other settings in the same folder are refused.
    Images that were replaced since get a new mask, those without a mask are tried again. A file
    that we did not write, or that was changed by hand since, is never written over.

    Args:
        source: Where masks come from.
        images: Folder of the images; None for sources that hold their own.
        out: Where masks and manifest go.
        filters: Which masks are dropped; the paper's rule where not given.
        second: A second method whose agreement is measured; its masks are not written.
        batch_size: Images in one call of the source.
        restart: Delete what an earlier run wrote there, and begin anew.
        overwrite: Write to the folder although it holds what we did not make.
        processes: Which of several processes this is; each makes its share of the masks, and the
            first writes the manifest.

    Raises:
        VitreousError: If there is nothing to do, the folder is not ours or holds masks of other
            settings, another process writes to it, or the disk is full.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from vitreous.masks import MASK_METHODS
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "cutouts").mkdir()
        >>> cup = Image.new("RGBA", (64, 64))
        >>> cup.paste((255, 0, 0, 255), (16, 16, 48, 48))
        >>> cup.save(folder / "cutouts" / "cup.png")
        >>> made = write_masks(MASK_METHODS["alpha"](), folder / "cutouts", folder / "masks")
        >>> [(row.mask, row.area) for row in made.kept()]
        [('cup.png', 0.25)]
    """
    check_folder(out, "masks", overwrite=overwrite)
    _require_apart(images, [m for m in (source, second) if m is not None], out)
    filters = filters or Filters()
    items = source.items(images)
    others = {item.name: item for item in second.items(images)} if second is not None else {}
    folder = MaskFolder(out)
    with folder_lock(out, "making masks", main=processes.main):
        if processes.main:
            claim_folder(out, "masks", overwrite=overwrite)
            folder.gather()
            if restart:
                _clear(folder)
            _remember(folder, source, second, filters)
            folder.compact()
        processes.wait()
        writer = _Writer(folder, MASK_METHODS.name_of(source), filters, _known(folder))
        processes.wait()
        _make(writer, source, items, second, others, batch_size, processes)
        processes.wait()
        if processes.main:
            folder.gather()
            folder.compact()
            folder.write_tables(labelled=images is not None)
        processes.wait()
    return folder


def _make(
    writer: _Writer,
    source: MaskMethod,
    items: Sequence[MaskItem],
    second: MaskMethod | None,
    others: dict[str, MaskItem],
    batch_size: int,
    processes: Processes,
) -> None:
    """Make this process's share of the masks that are not there yet, a batch at a time."""
    todo = _todo(items, writer.known)[processes.rank :: processes.count]
    kept = sum(row.kept for row in writer.known.values())
    with ProgressBar(total=len(todo), desc="masking", unit="mask", quiet=not processes.main) as bar:
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            stamps = [stamp(item) for item in batch]
            seconds = _second(second, others, batch)
            made = [
                writer.write(item, found, other, before)
                for item, found, other, before in zip(
                    batch, find_masks(source, batch), seconds, stamps
                )
            ]
            writer.folder.append(made, processes.rank)
            kept += sum(row.kept for row in made)
            bar.update(len(batch))
            bar.set_postfix(kept=kept)


def _require_apart(images: Path | None, methods: Sequence[MaskMethod], out: Path) -> None:
    """Refuse to write masks among the images, or over what masks are made from."""
    place = out.resolve()
    if images is not None and images.is_dir() and place.is_relative_to(images.resolve()):
        raise VitreousError(
            f"{out} lies in the folder of pictures {images}, where masks would be taken for "
            "pictures; choose another --out"
        )
    settings = [getattr(method, "__dict__", {}) for method in methods]
    for path in (value for own in settings for value in own.values()):
        if isinstance(path, Path) and path.resolve().is_relative_to(place):
            raise VitreousError(
                f"{path}, which masks are made from, lies in {out}, where they would be written; "
                "choose another --out"
            )


def _known(folder: MaskFolder) -> dict[str, ManifestRow]:
    """The rows that are there; tells which are of images that are gone."""
    rows = {row.name: row for row in folder.rows()}
    gone = [row.name for row in rows.values() if row.image and not Path(row.image).is_file()]
    if gone and rows:
        logger.warning(
            "%d masks are of pictures that are no longer there (first: %s); kept.csv leaves them "
            "out",
            len(gone),
            gone[0],
        )
    return rows


def _todo(items: Sequence[MaskItem], known: dict[str, ManifestRow]) -> list[MaskItem]:
    """What has no row, no mask, or another image than when its mask was made; tells the last."""
    missing = {item.name for item in items if not (item.name in known and known[item.name].mask)}
    changed = {
        item.name
        for item in items
        if item.name not in missing and known[item.name].stamp not in ("", stamp(item))
    }
    if changed:
        logger.warning(
            "%d pictures or sources were replaced since their masks were made (first: %s); these "
            "masks are made anew",
            len(changed),
            min(changed),
        )
    return [item for item in items if item.name in missing | changed]


def stamp(item: MaskItem) -> str:
    """Sizes and times of change of an item's image and source."""
    files = dict.fromkeys(path for path in (item.image, item.source) if path is not None)
    return json.dumps([file_stamp(path) for path in files])


def _second(
    source: MaskMethod | None, items: dict[str, MaskItem], batch: Sequence[MaskItem]
) -> Sequence[Found | MaskError | None]:
    """The second method's masks of a batch; its own items say where they are read from."""
    if source is None:
        return [None] * len(batch)
    known = [items[item.name] for item in batch if item.name in items]
    found = dict(zip((item.name for item in known), find_masks(source, known)))
    return [found.get(item.name, MaskError("it does not know this picture")) for item in batch]


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Measures masks, writes those that can be written, and makes their rows."""

    folder: MaskFolder
    method: str
    filters: Filters
    known: dict[str, ManifestRow]

    def write(
        self, item: MaskItem, found: Found | MaskError, second: Found | MaskError | None, stamp: str
    ) -> ManifestRow:
        image, source = str(item.image or ""), str(item.source)
        row = ManifestRow(item.name, image, "", source, self.method, kept=False, stamp=stamp)
        if isinstance(found, MaskError):
            return dataclasses.replace(row, dropped=_line(found))
        other = second.mask if isinstance(second, Found) else None
        if isinstance(second, MaskError) or (other is not None and other.shape != found.mask.shape):
            why = _line(second) if isinstance(second, MaskError) else "its mask is of another size"
            return dataclasses.replace(row, dropped=f"the second method has no mask: {why}")
        quality = measure(found.mask, other)
        reason = self.filters.reason(quality)
        mask = f"{EXTRAS}/dropped/{item.name}.png" if reason else f"{item.name}.png"
        file = inside(self.folder.path, mask)
        if not _is_ours(file, self.known.get(item.name)):
            return dataclasses.replace(
                row,
                dropped=f"{file} is there and is not of vitreous's making; it was left as it is",
            )
        self._drop_old(item.name, mask)
        write_mask(found.mask, file)
        return dataclasses.replace(
            row,
            mask=mask,
            kept=not reason,
            dropped=reason,
            note=found.note,
            width=found.mask.shape[1],
            height=found.mask.shape[0],
            quality=round(quality.score, 4),
            digest=pixel_digest(found.mask.astype(np.uint8) * 255),
            **{
                key: round(value, 4) if isinstance(value, float) else value
                for key, value in dataclasses.asdict(quality).items()
            },
        )

    def _drop_old(self, name: str, mask: str) -> None:
        """Remove the mask that an image had before it was replaced, where it lay elsewhere."""
        old = self.known.get(name)
        if old is not None and old.mask and old.mask != mask:
            _remove(self.folder.file(old), old)


def _line(error: MaskError) -> str:
    return " ".join(str(error).split())


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write a mask (H, W) bool as a grey PNG of 0 and 255, atomically, signed as ours."""
    pixels = mask.astype(np.uint8) * 255
    about = PngInfo()
    about.add_text(SIGN, pixel_digest(pixels))
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=about)


def pixel_digest(pixels: np.ndarray) -> str:
    """16 characters that tell a mask (H, W) uint8 from others; files and manifests keep them."""
    about = hashlib.blake2b(str(pixels.shape).encode(), digest_size=8)
    about.update(np.ascontiguousarray(pixels).tobytes())
    return about.hexdigest()


def _is_ours(file: Path, row: ManifestRow | None) -> bool:
    """Whether a mask may be replaced: nothing is there, or exactly what we wrote."""
    if not file.exists() and not file.is_symlink():
        return True
    try:
        with Image.open(file) as opened:
            opened.load()
            sign = opened.info.get(SIGN)
            pixels = np.asarray(opened)
    except Exception:  # whatever it is, it is no mask of ours
        return False
    if sign is not None:
        return sign == pixel_digest(pixels)
    binary = pixels.dtype == np.uint8 and pixels.ndim == 2 and np.isin(pixels, (0, 255)).all()
    return row is not None and not row.digest and bool(binary)  # of before masks were signed


def _remember(
    folder: MaskFolder, source: MaskMethod, second: MaskMethod | None, filters: Filters
) -> None:
    """Store the settings with the masks, or refuse to mix two."""
    settings = {
        "source": _described(source),
        "second": None if second is None else _described(second),
        "filters": config.plain(filters),
        "model": [method.weights() for method in (source, second) if isinstance(method, OfModel)],
    }
    file = folder.path / EXTRAS / "settings.json"
    if folder.manifest.is_file():
        if not file.is_file():
            raise VitreousError(
                f"{folder.manifest} was written by something else; choose another --out"
            )
        _require_same(folder, read_json(file), json.loads(json.dumps(settings)))
    write_json(file, settings)


def _described(method: MaskMethod) -> Values:
    return {"method": MASK_METHODS.name_of(method), **(_without_device(config.plain(method)) or {})}


def _without_device(settings: Values | None) -> Values | None:
    """Settings of a method without where it computes, which decides nothing."""
    if not isinstance(settings, dict):
        return settings
    return {key: value for key, value in settings.items() if key != "device"}


def _require_same(folder: MaskFolder, stored: object, settings: Values) -> None:
    """Refuse to write masks beside others that were made with other settings."""
    before = stored if isinstance(stored, dict) else {}
    known = [key for key in settings if key in before or key != "model"]  # older folders lack it
    changed = [key for key in known if _without_device(before.get(key)) != settings[key]]
    if changed:
        raise VitreousError(
            f"{folder.path} holds masks made with another {changed[0]}; choose another --out, or "
            "--restart to delete them and begin anew"
        )


def _clear(folder: MaskFolder) -> None:
    """Delete what we wrote to the folder and nothing else; what was changed by hand stays."""
    left = [row for row in folder.rows() if row.mask and not _remove(folder.file(row), row)]
    for name in OWN_FILES:
        (folder.path / EXTRAS / name).unlink(missing_ok=True)
    for name in ("manifest.jsonl", "manifest.csv", "kept.csv"):
        (folder.path / name).unlink(missing_ok=True)
    if left:
        logger.warning(
            "%d masks were changed by hand and stay (first: %s)", len(left), left[0].mask
        )


def _remove(file: Path, row: ManifestRow) -> bool:
    """Remove a mask if it is ours; returns whether it is gone."""
    if not _is_ours(file, row):
        return False
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
    return not file.exists()
