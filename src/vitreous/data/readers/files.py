"""Pictures in class folders or CSV lists, with masks in a parallel folder."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Literal

from vitreous.data.images import EXTENSIONS, list_images
from vitreous.data.items import FileDataset, ImageDataset, Sample, Subset, readable
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.base import READERS, Split, split_by_class
from vitreous.errors import VitreousError, nearest

OnError = Literal["error", "skip"]


@READERS.register("folders")
@dataclasses.dataclass(frozen=True)
class Folders:
    """A folder a class (`images/CLASS/a.jpg`), or a CSV list; masks matched by relative stem.

    Attributes:
        images: Folder of class folders, or a CSV file with columns `path,label[,mask]`; paths in
            it are relative to the file.
        masks: Folder with `CLASS/a.png`, or `a.png`, for `images/CLASS/a.jpg`.
        mask_format: `binary`, or `imagenet_s` (class = R + 256·G).
        require_masks: Whether a picture without a mask is an error; else it stays, unmasked.
        validation_images: A second folder or CSV to validate on; else a share of each class.
        validation_masks: Its masks.
        validation_share: Share of each class that validates where there is no second folder.
        per_class: How many pictures of each class train; all where not given.
        class_list: File with one class folder name a line: gives the labels their order.
        on_error: `error` stops at the first picture that cannot be read; `skip` tries all of them
            first and leaves out those that fail, named and counted in the run.
    """

    images: str
    masks: str | None = None
    mask_format: MaskFormat = "binary"
    require_masks: bool = True
    validation_images: str | None = None
    validation_masks: str | None = None
    validation_share: float = 0.1
    per_class: int | None = None
    class_list: str | None = None
    on_error: OnError = "error"

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share must be in [0, 1), found {self.validation_share}")

    def load(self, seed: int) -> Split:
        """Find and split the pictures.

        Raises:
            VitreousError: If a folder, class or mask is missing; ImageError for bad pictures.
        """
        names = read_class_list(self.class_list) if self.class_list else None
        items, classes = self._items(self.images, self.masks, names)
        items, bad = self._checked(items)
        if self.validation_images is not None:
            held, _ = self._items(self.validation_images, self.validation_masks, classes)
            held, bad_held = self._checked(held)
            train: ImageDataset = items
            if self.per_class is not None:
                chosen, _ = split_by_class(labels_of(items), seed, self.per_class, 0.0)
                train = Subset(items, chosen)
            return Split(train, held, classes, {"skipped": bad + bad_held})
        chosen, kept = split_by_class(labels_of(items), seed, self.per_class, self.validation_share)
        return Split(Subset(items, chosen), Subset(items, kept), classes, {"skipped": bad})

    def _items(
        self, images: str, masks: str | None, classes: list[str] | None
    ) -> tuple[FileDataset, list[str]]:
        path = Path(images).expanduser()
        if path.suffix.lower() == ".csv":
            samples, names = read_csv(path, classes)
        else:
            samples, names = read_folders(path, classes)
        if masks is not None:
            samples = match_masks(samples, path, Path(masks).expanduser(), self.require_masks)
        return FileDataset(samples, self.mask_format), names

    def _checked(self, items: FileDataset) -> tuple[FileDataset, list[str]]:
        if self.on_error == "error":
            return items, []
        good, bad = readable(items)
        if not good.indices:
            raise VitreousError(f"none of {len(items)} pictures can be read; the first: {bad[0]}")
        return FileDataset([items.samples[i] for i in good.indices], items.mask_format), bad


def labels_of(items: FileDataset) -> list[int]:
    """Labels in order."""
    return [sample.label for sample in items.samples]


def read_class_list(path: str) -> list[str]:
    """Read one class name a line."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").split("\n")[:-1]
    except OSError as error:
        raise VitreousError(f"cannot read the class list {path}: {error.strerror}") from error


def read_folders(root: Path, classes: list[str] | None = None) -> tuple[list[Sample], list[str]]:
    """List `root/CLASS/**/picture`, sorted; labels follow `classes` or the sorted folder names.

    Raises:
        VitreousError: If the root or a class folder is missing, or a class is empty or unknown.
    """
    if not root.is_dir():
        raise VitreousError(f"no folder at {root}; expected one folder a class in it")
    found = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise VitreousError(f"{root} holds no class folders; expected {root}/CLASS/picture.jpg")
    names = classes or found
    unknown = [name for name in found if name not in names]
    if unknown:
        raise VitreousError(f"{root}: unknown class '{unknown[0]}'; {nearest(unknown[0], names)}")
    missing = [name for name in names if name not in found]
    if missing:
        raise VitreousError(
            f"{root} lacks {len(missing)} of {len(names)} class folders, first '{missing[0]}'"
        )
    samples = [
        Sample(path, label) for label, name in enumerate(names) for path in list_images(root / name)
    ]
    return samples, list(names)


def read_csv(path: Path, classes: list[str] | None = None) -> tuple[list[Sample], list[str]]:
    """Read a list with the columns `path,label[,mask]`; labels are numbers or class names.

    Raises:
        VitreousError: If the file or a column is missing, or a label is unknown.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise VitreousError(f"cannot read {path}: {error.strerror}") from error
    if not rows or not {"path", "label"} <= set(rows[0]):
        found = ", ".join(rows[0]) if rows else "no rows"
        raise VitreousError(f"{path}: expected the columns path,label[,mask], found {found}")
    texts = [row["label"] for row in rows]
    numeric = all(text.isdigit() for text in texts)
    names = classes or ([] if numeric else sorted(set(texts)))
    if not numeric and any(text not in names for text in texts):
        wrong = next(text for text in texts if text not in names)
        raise VitreousError(f"{path}: unknown class '{wrong}'; {nearest(wrong, names)}")
    labels = [int(text) if numeric else names.index(text) for text in texts]
    samples = [
        Sample(
            path.parent / row["path"], label, path.parent / row["mask"] if row.get("mask") else None
        )
        for row, label in zip(rows, labels)
    ]
    return samples, names


def match_masks(samples: list[Sample], root: Path, masks: Path, require: bool) -> list[Sample]:
    """Find for `root/a/b.jpg` the mask `masks/a/b.*`, else `masks/b.*`.

    Raises:
        VitreousError: If the folder is missing, or a picture has no mask and `require` is set.
    """
    if not masks.is_dir():
        raise VitreousError(f"no folder of masks at {masks}")
    base = root if root.is_dir() else root.parent
    table = {
        path.relative_to(masks).with_suffix("").as_posix(): path
        for path in sorted(masks.rglob("*"))
        if path.suffix.lower() in EXTENSIONS
    }
    matched, missing = [], []
    for sample in samples:
        relative = Path(sample.path).relative_to(base).with_suffix("")
        mask = table.get(relative.as_posix()) or table.get(relative.name)
        if mask is None and sample.mask is None:
            missing.append(sample.path)
        matched.append(dataclasses.replace(sample, mask=mask or sample.mask))
    if missing and (require or len(missing) == len(samples)):
        raise VitreousError(
            f"{len(missing)} of {len(samples)} pictures have no mask in {masks}, the first is "
            f"{missing[0]}; make them with `vitreous mask`, or set data.require_masks false"
        )
    return matched
