"""Shifted sets with labels of their own: ObjectNet, SI-Score and cue conflict."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.data.class_maps import class_map
from vitreous.data.dataset import Dataset, LeftOut
from vitreous.data.listing import NO_IMAGES, left_out
from vitreous.data.readers.tables import read_rows
from vitreous.errors import VitreousError
from vitreous.evaluation.test_sets.base import (
    TEST_SETS,
    Convention,
    TestSet,
    describe_folder,
    file_dataset,
    file_names,
    folder_dataset,
    layout_error,
    subfolders,
)
from vitreous.evaluation.test_sets.imagenet import home_convention

FACTORS_FILE = "factors.csv"
UNMAPPED = "folders that map to no class of ImageNet"


@TEST_SETS.register("objectnet")
@dataclasses.dataclass(frozen=True)
class ObjectNet:
    """ObjectNet: 113 of its 313 folders are classes of ImageNet, some of them of several.

    A prediction is right if it is any of a folder's classes; RobustViT's published numbers count
    only the first, and the testbed (Taori et al. 2020) decides among ObjectNet's classes alone. The
    red border of two pixels is cut off.
    """

    folders: ClassVar[tuple[str, ...]] = ("objectnet-1.0/images", "objectnet/images", "objectnet")
    source: ClassVar[str] = "Barbu et al. 2019, https://objectnet.dev"
    expected: ClassVar[str] = "ObjectNet's folders (air_freshener, alarm_clock, …), mostly 313"

    def read(self, path: Path) -> list[TestSet]:
        """Read the images of the folders that map to ImageNet."""
        path = path / "images" if (path / "images").is_dir() else path
        classes = class_map("objectnet")["classes"]
        listed = subfolders(path)
        kept = [f for f in listed if f in classes]
        if not kept:
            raise layout_error("objectnet", self, path, describe_folder(path, listed))
        names = tuple(classes)
        dataset = folder_dataset(path, {f: names.index(f) for f in kept}, UNMAPPED)
        return [
            TestSet(
                "objectnet",
                dataset,
                dataset.labels,
                tuple(tuple(classes[n]) for n in names),
                (
                    Convention("any of its classes"),
                    Convention("first class", first_only=True),
                    home_convention("objectnet"),
                ),
                names,
                num_classes=1000,
                border=2,
                source=self.source,
            )
        ]


@dataclasses.dataclass(frozen=True)
class _SIScore:
    """SI-Score: cut-outs on backgrounds; the folders are label texts.

    Where a `factors.csv` lies beside the folders (`path`, then one column for each factor;
    `vitreous evaluate` writes one with its own sets), accuracy is also given for each value.
    """

    folders: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = "Djolonga et al. 2020, https://github.com/google-research/si-score"
    expected: ClassVar[str] = "folders named by label text (ambulance, armadillo, …)"

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        name = TEST_SETS.name_of(self)
        path = path / "images" if (path / "images").is_dir() else path
        classes = class_map("si_score")["classes"]
        listed = subfolders(path)
        unknown = [f for f in listed if f not in classes]
        if unknown or not listed:
            raise layout_error(name, self, path, describe_folder(path, unknown or listed))
        names = tuple(classes)
        whole = folder_dataset(path, {f: names.index(f) for f in listed})
        dataset, factors = read_factors(path, whole)
        return [
            TestSet(
                name,
                dataset,
                dataset.labels,
                tuple(tuple(classes[n]) for n in names),
                (Convention("any of its classes"),),
                names,
                num_classes=1000,
                factors=factors,
                source=self.source,
            )
        ]


def read_factors(path: Path, dataset: Dataset) -> tuple[Dataset, dict[str, np.ndarray]]:
    """Read what was varied in each image: `factors.csv`, if there is one.

    Returns:
        The images that it lists (the others, and rows without an image, are named as left out),
        and for each factor its value (N,) for each of them, as text.

    Raises:
        VitreousError: If the file is not as it should be, or lists none of the images.
    """
    file = path / FACTORS_FILE
    if not file.is_file():
        return dataset, {}
    header, table = read_rows(file)
    if "path" not in header:
        raise VitreousError(f"{file}: expected a column path, found {', '.join(header)}")
    rows = {row["path"]: row for _, row in table}
    names = [dataset.name(i) for i in range(len(dataset))]
    chosen = [i for i, name in enumerate(names) if name in rows]
    if not chosen:
        raise VitreousError(f"{file} lists none of the {len(names)} pictures beside it")
    passed = left_out(
        {
            f"images that {FACTORS_FILE} does not list": [n for n in names if n not in rows],
            f"rows of {FACTORS_FILE} without an image": sorted(rows.keys() - set(names)),
        }
    )
    # The table itself is no stray file.
    others = tuple(e for e in dataset.left_out if e.names != (FACTORS_FILE,))
    kept = dataclasses.replace(dataset.select(chosen), left_out=(*others, *passed))
    factors = [name for name in header if name != "path"]
    return kept, {f: np.array([rows[names[i]][f] for i in chosen]) for f in factors}


@TEST_SETS.register("si-score-location")
@dataclasses.dataclass(frozen=True)
class SIScoreLocation(_SIScore):
    """SI-Score: the object's place varies."""

    folders: ClassVar[tuple[str, ...]] = ("object_location", "si-score/object_location", "location")


@TEST_SETS.register("si-score-rotation")
@dataclasses.dataclass(frozen=True)
class SIScoreRotation(_SIScore):
    """SI-Score: the object's angle varies."""

    folders: ClassVar[tuple[str, ...]] = ("object_rotation", "si-score/object_rotation", "rotation")


@TEST_SETS.register("si-score-size")
@dataclasses.dataclass(frozen=True)
class SIScoreSize(_SIScore):
    """SI-Score: the object's size varies."""

    folders: ClassVar[tuple[str, ...]] = ("object_size", "si-score/object_size", "size", "area")


@TEST_SETS.register("cue-conflict")
@dataclasses.dataclass(frozen=True)
class CueConflict:
    """Cue conflict: the shape of one category with the texture of another.

    The decision is among 16 categories, each the mean probability of its ImageNet classes.
    Images whose shape and texture are one category are left out, as in the published protocol.
    """

    folders: ClassVar[tuple[str, ...]] = (
        "cue-conflict",
        "cue_conflict",
        "style-transfer-preprocessed-512",
        "stimuli/style-transfer-preprocessed-512",
    )
    source: ClassVar[str] = "Geirhos et al. 2019, https://github.com/rgeirhos/texture-vs-shape"
    expected: ClassVar[str] = "16 folders of shapes (airplane, bear, …) with airplane1-bear2.png"

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        classes = class_map("cue_conflict")["classes"]
        names = tuple(classes)
        listed = subfolders(path)
        if not listed or any(f not in classes for f in listed):
            raise layout_error("cue-conflict", self, path, describe_folder(path, listed))
        rows, passed = self._list(path, listed, names)
        files, shapes, textures = zip(*rows) if rows else ((), (), ())
        targets = np.array(shapes, dtype=np.int64)
        groups = tuple(tuple(classes[n]) for n in names)
        return [
            TestSet(
                "cue-conflict",
                file_dataset(path, files, targets, passed),
                targets,
                tuple((i,) for i in range(len(names))),
                (Convention("16 categories, by shape", groups=groups),),
                names,
                num_classes=1000,
                second=np.array(textures, dtype=np.int32),
                source=self.source,
            )
        ]

    def _list(
        self, path: Path, listed: Sequence[str], names: tuple[str, ...]
    ) -> tuple[list[tuple[str, int, int]], tuple[LeftOut, ...]]:
        """File, shape and texture of each image whose cues are in conflict; what is left out."""
        rows, same, others = [], [], file_names(path)[1]
        for folder in listed:
            files, rest = file_names(path / folder)
            others += [f"{folder}/{name}" for name in rest]
            for file in files:
                texture = self._texture(path, folder, file, names)
                if texture == folder:
                    same.append(f"{folder}/{file}")
                else:
                    rows.append((f"{folder}/{file}", names.index(folder), names.index(texture)))
        return rows, left_out({"images whose shape and texture are one": same, NO_IMAGES: others})

    def _texture(self, path: Path, folder: str, file: str, names: tuple[str, ...]) -> str:
        match = re.fullmatch(r"([a-z]+)\d*-([a-z]+)\d*", Path(file).stem)
        if match is None or match.group(1) != folder or match.group(2) not in names:
            raise layout_error("cue-conflict", self, path / folder, f"a picture named {file}")
        return match.group(2)
