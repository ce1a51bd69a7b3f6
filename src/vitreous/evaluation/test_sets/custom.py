"""Tiny-ImageNet, and any folder, CSV file or tar shards of the user's, with a class map."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.data.dataset import Dataset
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers import read_dataset
from vitreous.data.readers.tables import Columns, with_group_file
from vitreous.errors import VitreousError, nearest, shorten
from vitreous.evaluation.test_sets.base import (
    TEST_SETS,
    Convention,
    TestSet,
    describe_folder,
    file_dataset,
    image_names,
    layout_error,
    single,
    subfolders,
)
from vitreous.evaluation.test_sets.imagenet import WNID, imagenet_set
from vitreous.fingerprint import named_content
from vitreous.io import read_json
from vitreous.models.class_words import imagenet_index, imagenet_labels
from vitreous.text import read_text


@TEST_SETS.register("tiny-imagenet")
@dataclasses.dataclass(frozen=True)
class TinyImageNet:
    """Tiny-ImageNet's validation set: its own `val/images` with annotations, or class folders.

    Attributes:
        classes: `own`: the model's classes are the set's WordNet ids, sorted; `imagenet`: the
            model has ImageNet's 1000, and the decision is among those of the set.
    """

    classes: str = "own"

    folders: ClassVar[tuple[str, ...]] = ("tiny-imagenet-200", "tiny-imagenet", "tiny_imagenet")
    source: ClassVar[str] = "CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    expected: ClassVar[str] = "val/images with val/val_annotations.txt, or val/WNID/picture"

    def __post_init__(self) -> None:
        if self.classes not in ("own", "imagenet"):
            raise ValueError(f"classes: found '{self.classes}'; {nearest('', ('own', 'imagenet'))}")

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        root = path if (path / "val").is_dir() else path.parent
        val = root / "val" if (root / "val").is_dir() else path
        files, labels = self._labelled(val)
        listed = root / "wnids.txt"
        wnids = sorted(read_text(listed).split()) if listed.is_file() else sorted(set(labels))
        if self.classes == "own":
            if absent := sorted(set(labels) - set(wnids)):
                raise VitreousError(f"{listed} does not list {absent[0]}, which {val} holds")
            targets = np.array([wnids.index(w) for w in labels], dtype=np.int64)
            return [
                TestSet(
                    "tiny-imagenet",
                    file_dataset(val, files, targets),
                    targets,
                    single(len(wnids)),
                    target_names=tuple(wnids),
                    num_classes=len(wnids),
                    suite="clean",
                    source=self.source,
                )
            ]
        index = imagenet_index()
        if absent := [w for w in set(labels) if w not in index]:
            raise VitreousError(f"tiny-imagenet: {absent[0]} is no class of ImageNet-1k")
        targets = np.array([index[w] for w in labels], dtype=np.int64)
        classes = tuple(index[w] for w in wnids if w in index)
        conventions = (
            Convention(f"over its {len(classes)} classes", classes),
            Convention("over all 1000 classes"),
        )
        return [
            imagenet_set(
                "tiny-imagenet",
                file_dataset(val, files, targets),
                conventions=conventions,
                suite="clean",
                source=self.source,
            )
        ]

    def _labelled(self, val: Path) -> tuple[list[str], list[str]]:
        annotations = val / "val_annotations.txt"
        if annotations.is_file():
            rows = [line.split("\t") for line in read_text(annotations).splitlines() if line]
            short = [number for number, row in enumerate(rows, 1) if len(row) < 2]
            if short:
                raise VitreousError(f"{annotations}: row {short[0]} has no class")
            return [f"images/{row[0]}" for row in rows], [row[1] for row in rows]
        folders = [f for f in subfolders(val) if WNID.fullmatch(f)] if val.is_dir() else []
        if not folders:
            raise layout_error("tiny-imagenet", self, val, describe_folder(val))
        files, labels = [], []
        for folder in folders:
            inner = f"{folder}/images" if (val / folder / "images").is_dir() else folder
            listed = image_names(val / inner)
            files += [f"{inner}/{n}" for n in listed]
            labels += [folder] * len(listed)
        return files, labels


@TEST_SETS.register("folder")
@dataclasses.dataclass(frozen=True)
class Folder:
    """Images of the user's: class folders, a CSV file, tar shards, Parquet or Arrow files.

    A class map is JSON: label → class index, WordNet id, class name, or a list of those of which
    any is right. Without one, labels may be class indices (in a CSV file or tar shards), names of
    the model's classes, WordNet ids (for a model with ImageNet's classes), or as many folders as
    the model has classes, in sorted order.

    Attributes:
        class_map: The JSON file.
        label_column: The column of a CSV file that holds the label.
        group_column: The column of a table that holds the group.
        groups: A CSV file with the columns path and group, for images without such a column.
        masks: A folder of masks, matched by name; a table or shards may have some of their own.
        mask_format: How they are read.
        name: How results call the set; the folder's or file's name by default.
        shifted: The images differ from those of training.
        class_names: Names of the model's classes, in order.
        num_classes: How many classes the model has.
    """

    class_map: Path | None = None
    label_column: str = "label"
    group_column: str = "group"
    groups: Path | None = None
    masks: Path | None = None
    mask_format: MaskFormat = "binary"
    name: str = ""
    shifted: bool = False
    class_names: tuple[str, ...] = ()
    num_classes: int = 0

    folders: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = "your own pictures"
    expected: ClassVar[str] = (
        "a folder for each class, a CSV file with the columns path and label, tar shards with "
        ".cls, or Parquet files with the columns image and label"
    )

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        columns = Columns(self.label_column, self.group_column)
        dataset = read_dataset(
            path, labelled=True, columns=columns, masks=self.masks, mask_format=self.mask_format
        )
        if self.groups is not None:
            dataset = with_group_file(dataset, self.groups, self.group_column)
        texts, targets = label_texts(dataset)
        accepted = self._accepted(texts, numbered=not dataset.class_names)
        return [
            TestSet(
                self.name or path.stem,
                dataclasses.replace(dataset, labels=targets),
                targets,
                accepted,
                target_names=texts,
                num_classes=self.num_classes,
                suite="shifts" if self.shifted else "clean",
                source=str(path.name),
                reading=self._reading(),
                grouping=self._grouping(),
            )
        ]

    def _reading(self) -> dict[str, str]:
        """How labels were read, where that is not the usual way."""
        column = {} if self.label_column == "label" else {"label_column": self.label_column}
        if self.class_map is None:
            return column
        return {"class_map": named_content(self.class_map), **column}

    def _grouping(self) -> dict[str, str]:
        """How groups were read, where that is not the usual way."""
        column = {} if self.group_column == "group" else {"group_column": self.group_column}
        return column if self.groups is None else {"groups": named_content(self.groups), **column}

    def _accepted(self, labels: tuple[str, ...], numbered: bool) -> tuple[tuple[int, ...], ...]:
        names = {n: i for i, n in enumerate(self.class_names)}
        if self.class_map is not None:
            table = read_json(self.class_map)
            table = table.get("classes", table) if isinstance(table, dict) else table
            if not isinstance(table, dict):
                raise VitreousError(
                    f"{self.class_map}: expected labels with classes, found {shorten(table)}"
                )
            if missing := [label for label in labels if label not in table]:
                near = nearest(missing[0], table)
                raise VitreousError(f"{self.class_map} has no entry for '{missing[0]}'; {near}")
            return tuple(self._resolve(table[label], names) for label in labels)
        if all(label in names for label in labels):
            return tuple((names[label],) for label in labels)
        classes = self.class_names or tuple(imagenet_index() if self.num_classes == 1000 else ())
        if (placed := imagenet_labels(labels, classes)) is not None:
            return tuple((label,) for label in placed)
        if numbered and all(label.isdigit() for label in labels):
            return tuple(self._resolve(int(label), names) for label in labels)
        if len(labels) == self.num_classes:
            return single(self.num_classes)
        raise VitreousError(
            f"found {len(labels)} labels ({', '.join(labels[:3])}, …) and a model of "
            f"{self.num_classes} classes; which is which? Give --class-map MAP.json, which maps "
            "each label to a class index, a WordNet id or a list of them"
        )

    def _resolve(self, value: object, names: dict[str, int]) -> tuple[int, ...]:
        values = value if isinstance(value, list) else [value]
        return tuple(self._class(v, names) for v in values)

    def _class(self, value: object, names: dict[str, int]) -> int:
        index = imagenet_index() if self.num_classes == 1000 else {}
        if isinstance(value, str) and value in {**names, **index}:
            return {**names, **index}[value]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole and 0 <= value < (self.num_classes or value + 1):
            return value
        raise VitreousError(
            f"'{value}' is no class of the model: expected an index below {self.num_classes}, "
            "or a name of its classes"
        )


def label_texts(dataset: Dataset) -> tuple[tuple[str, ...], np.ndarray]:
    """The labels that occur in a dataset, as texts in their order, and (N,) their places."""
    present, places = np.unique(dataset.labels, return_inverse=True)
    names = dataset.class_names
    texts = tuple(names[i] if names else str(i) for i in present.tolist())
    return texts, places.reshape(-1).astype(np.int64)
