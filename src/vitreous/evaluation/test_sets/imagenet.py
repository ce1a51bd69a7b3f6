"""ImageNet's own validation set and the shifted sets that share its folders of WordNet ids."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import timm.data

from vitreous.data.class_maps import class_map
from vitreous.data.dataset import Dataset
from vitreous.data.listing import NO_IMAGES, left_out
from vitreous.data.readers.shards import index_shards, tar_shards
from vitreous.errors import VitreousError
from vitreous.evaluation.test_sets.base import (
    TEST_SETS,
    Convention,
    TestSet,
    describe_folder,
    file_dataset,
    file_names,
    folder_dataset,
    image_names,
    layout_error,
    single,
    subfolders,
)
from vitreous.models.class_words import imagenet_index
from vitreous.text import read_text

WNID = re.compile(r"n\d{8}")
LABEL_FILES = (
    "val.txt",
    "labels.csv",
    "labels.txt",
    "LOC_val_solution.csv",
    "imagenet_2012_validation_synset_labels.txt",
)


def imagenet_set(name: str, dataset: Dataset, **more: object) -> TestSet:
    """Make a test set of a dataset whose labels are the 1000 classes of ImageNet.

    Args:
        name: Of the set.
        dataset: Its images.
        **more: Other fields of `TestSet`.
    """
    test_set = TestSet(
        name,
        dataset,
        dataset.labels,
        single(1000),
        target_names=imagenet_names(),
        num_classes=1000,
    )
    return dataclasses.replace(test_set, **more)


@functools.cache
def imagenet_names() -> tuple[str, ...]:
    """Names of the 1000 classes in order."""
    info = timm.data.ImageNetInfo()
    return tuple(info.index_to_description(i) for i in range(1000))


def wnid_folders(path: Path) -> dict[str, int]:
    """Map the subfolders that are WordNet ids of ImageNet-1k to class indices."""
    index = imagenet_index()
    return {f: index[f] for f in subfolders(path) if f in index}


def home_convention(shift: str) -> Convention:
    """The rule under which a shift's classes are scored on ImageNet's own images.

    For a set of only some of the classes, their images count, and the decision is among them.
    """
    if shift in ("imagenet-a", "imagenet-r"):
        wnids = class_map(shift.replace("-", "_"))["wnids"]
        classes = tuple(imagenet_index()[w] for w in wnids)
    elif shift == "objectnet":
        table = class_map("objectnet")["classes"]
        classes = tuple(sorted({i for ids in table.values() for i in ids}))
    else:
        return Convention("all classes")
    return Convention(f"{len(classes)} classes of {shift}", classes)


@dataclasses.dataclass(frozen=True)
class ImageNetVal:
    """ImageNet's validation set.

    It may be folders of WordNet ids; a flat folder with a labels file; a flat folder whose file
    names begin with the WordNet id; or tar shards (`.cls` beside each image).

    Attributes:
        labels: The labels file of a flat folder, relative to it or absolute: lines
            `NAME CLASS` (a number or a WordNet id), Kaggle's `LOC_val_solution.csv`, or one
            WordNet id a line in the order of the sorted file names. Usual names are found.
    """

    labels: Path | None = None

    folders: ClassVar[tuple[str, ...]] = (
        "imagenet/val",
        "ILSVRC2012/val",
        "ILSVRC/Data/CLS-LOC/val",
        "ILSVRC2012_img_val",
        "imagenet1k/val",
        "val",
    )
    source: ClassVar[str] = "ILSVRC 2012, https://www.image-net.org"
    expected: ClassVar[str] = (
        "1000 folders of WordNet ids (n01440764, …), or a flat folder with a labels file "
        f"({', '.join(LABEL_FILES)}), or tar shards"
    )

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        name = TEST_SETS.name_of(self)
        dataset = self._dataset(path)
        shifts = ("", "imagenet-a", "imagenet-r", "objectnet")
        return [
            imagenet_set(
                name,
                dataset,
                conventions=tuple(map(home_convention, shifts)),
                suite="clean",
                source=self.source,
            )
        ]

    def _dataset(self, path: Path) -> Dataset:
        name = TEST_SETS.name_of(self)
        if shards := tar_shards(path):
            return tar_dataset(shards)
        if path.is_dir() and (folders := wnid_folders(path)):
            return folder_dataset(path, folders)
        files = image_names(path) if path.is_dir() else []
        labels = _labels_file(path, self.labels)
        if files and labels is not None:
            return _labelled(path, files, read_labels(labels), labels)
        index = imagenet_index()
        if files and all(f[:9] in index for f in files):
            return file_dataset(path, files, np.array([index[f[:9]] for f in files]))
        raise layout_error(name, self, path, describe_folder(path))


def _labels_file(path: Path, given: Path | None) -> Path | None:
    if given is not None:
        file = given if given.is_absolute() else path / given
        if not file.is_file():
            raise VitreousError(f"no labels file at {file}")
        return file
    places = (path / n if p else path.parent / n for p in (True, False) for n in LABEL_FILES)
    return next((f for f in places if f.is_file()), None)


def read_labels(file: Path) -> dict[str, int] | list[int]:
    """Read a labels file: stem of the image → class, or classes in the order of the names.

    Raises:
        VitreousError: For a label that is no class of ImageNet-1k. A bare number a line is
            refused: the development kit's `ILSVRC2012_validation_ground_truth.txt` numbers the
            classes in another order.
    """
    lines = enumerate(read_text(file).splitlines(), 1)
    numbered = [(n, re.split(r"[\s,]+", line.strip())) for n, line in lines if line.strip()]
    rows = [row for _, row in numbered]
    if rows and rows[0][0].lower() in {"imageid", "name", "path", "file", "filename", "image"}:
        rows, numbered = rows[1:], numbered[1:]
    if rows and all(len(row) == 1 for row in rows):
        if rows[0][0].isdigit():
            raise VitreousError(
                f"{file} holds bare numbers; the development kit's order is not that of the "
                "sorted WordNet ids, so expected lines NAME CLASS, or one WordNet id a line"
            )
        return [_class(row[0], file) for row in rows]
    short = [number for number, row in numbered if len(row) < 2]
    if short:
        raise VitreousError(f"{file}: row {short[0]} has no class; expected lines NAME CLASS")
    return {Path(row[0]).stem: _class(row[1], file) for row in rows}


def _class(text: str, file: Path) -> int:
    if text in imagenet_index():
        return imagenet_index()[text]
    if text.isdigit() and int(text) < 1000:
        return int(text)
    raise VitreousError(f"{file}: '{text}' is no class of ImageNet-1k (0 to 999, or a WordNet id)")


def _labelled(
    path: Path, files: list[str], labels: dict[str, int] | list[int], source: Path
) -> Dataset:
    """Give the images of a flat folder the labels of a file."""
    others = [name for name in file_names(path)[1] if path / name != source]
    if isinstance(labels, list):
        if len(labels) != len(files):
            raise VitreousError(f"found {len(files)} pictures but {len(labels)} labels")
        passed = left_out({NO_IMAGES: others})
        return file_dataset(path, files, np.array(labels, dtype=np.int64), passed)
    stems = [Path(f).stem for f in files]
    missing = [f for f, stem in zip(files, stems) if stem not in labels]
    if missing:
        raise VitreousError(f"no label for {missing[0]} (and {len(missing) - 1} more pictures)")
    passed = left_out(
        {NO_IMAGES: others, "labels without an image": sorted(labels.keys() - set(stems))}
    )
    return file_dataset(path, files, np.array([labels[s] for s in stems], dtype=np.int64), passed)


def tar_dataset(shards: list[Path]) -> Dataset:
    """Read tar shards with the class (a number or a WordNet id) in `.cls` beside each image.

    Without it the class is the folder that the image lies in, so that the published archives of
    V2, -A and -R are read as they are.

    Raises:
        VitreousError: If a sample has neither, or none of the shards holds an image.
    """
    index = index_shards(shards)
    targets = []
    for i, members in enumerate(index.beside):
        name = Path(index.images.name(i))
        folder = name.parent.name
        if "cls" not in members and folder not in imagenet_index() and not folder.isdigit():
            raise VitreousError(
                f"{name} has no .cls beside it and lies in no folder of a class; expected "
                "webdataset samples KEY.jpg and KEY.cls, or CLASS/KEY.jpg"
            )
        targets.append(
            _class(members["cls"].decode().strip() if "cls" in members else folder, name)
        )
    if not targets:
        raise VitreousError(f"{shards[0]} and {len(shards) - 1} more tar files hold no picture")
    labels = np.array(targets, dtype=np.int64)
    return Dataset(index.images, labels, left_out=index.left_out)


TEST_SETS.register("imagenet-val")(ImageNetVal)


@TEST_SETS.register("imagenet-real")
@dataclasses.dataclass(frozen=True)
class ImageNetReaL(ImageNetVal):
    """ImageNet's validation set under the Reassessed Labels (Beyer et al. 2020).

    A prediction is right if it is any of an image's labels; images without a label (3,163 of
    50,000) are not counted. Files need their original names (`ILSVRC2012_val_00000001.JPEG`).
    """

    source: ClassVar[str] = (
        "Beyer et al. 2020, Are we done with ImageNet?, "
        "https://github.com/google-research/reassessed-imagenet, on the pictures of ILSVRC 2012"
    )

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        dataset = self._dataset(path)
        numbers = [_val_number(dataset.name(i)) for i in range(len(dataset))]
        original = [f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 50_001)]
        table = timm.data.RealLabelsImagenet(original).real_labels
        sets = [tuple(table[original[n - 1]]) for n in numbers]
        accepted = tuple(dict.fromkeys(sets))
        rows = {labels: i for i, labels in enumerate(accepted)}
        targets = np.array([rows[labels] for labels in sets], dtype=np.int64)
        convention = (Convention("any of the ReaL labels"),)
        return [
            TestSet(
                "imagenet-real",
                dataclasses.replace(dataset, labels=targets),
                targets,
                accepted,
                convention,
                num_classes=1000,
                suite="clean",
                source=self.source,
            )
        ]


def _val_number(name: str) -> int:
    match = re.search(r"ILSVRC2012_val_(\d{8})", name)
    if match is None or not 1 <= int(match.group(1)) <= 50_000:
        raise VitreousError(
            f"ReaL labels go by the original names; found {name}, expected "
            "ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG"
        )
    return int(match.group(1))
