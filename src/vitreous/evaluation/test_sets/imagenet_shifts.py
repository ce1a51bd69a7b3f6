"""Shifted sets that share ImageNet's classes: V2, -A, -R and -Sketch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from vitreous.data.class_maps import class_map
from vitreous.data.dataset import Dataset
from vitreous.data.readers.shards import tar_shards
from vitreous.evaluation.test_sets.base import (
    TEST_SETS,
    Convention,
    TestSet,
    describe_folder,
    folder_dataset,
    layout_error,
    subfolders,
)
from vitreous.evaluation.test_sets.imagenet import imagenet_set, tar_dataset, wnid_folders
from vitreous.models.class_words import imagenet_index


@dataclasses.dataclass(frozen=True)
class _V2:
    """ImageNet-V2: the folders `0` to `999` are class indices, whatever order they sort in."""

    source: ClassVar[str] = "Recht et al. 2019, https://github.com/modestyachts/ImageNetV2"
    expected: ClassVar[str] = "folders named by class index, 0 to 999, or tar shards"
    folders: ClassVar[tuple[str, ...]] = ()

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        name = TEST_SETS.name_of(self)
        if shards := tar_shards(path):
            return [imagenet_set(name, tar_dataset(shards), source=self.source)]
        listed = subfolders(path)
        wrong = [f for f in listed if not f.isdigit() or int(f) > 999]
        if not listed or wrong:
            raise layout_error(name, self, path, describe_folder(path, wrong or listed))
        targets = {f: int(f) for f in sorted(listed, key=int)}
        return [imagenet_set(name, folder_dataset(path, targets), source=self.source)]


@TEST_SETS.register("imagenet-v2-matched-frequency")
@dataclasses.dataclass(frozen=True)
class V2MatchedFrequency(_V2):
    """ImageNet-V2, matched frequency: the variant that is usually meant."""

    folders: ClassVar[tuple[str, ...]] = (
        "imagenetv2-matched-frequency-format-val",
        "imagenetv2-matched-frequency",
        "imagenet-v2",
        "imagenetv2",
    )


@TEST_SETS.register("imagenet-v2-threshold-0.7")
@dataclasses.dataclass(frozen=True)
class V2Threshold(_V2):
    """ImageNet-V2, threshold 0.7."""

    folders: ClassVar[tuple[str, ...]] = (
        "imagenetv2-threshold0.7-format-val",
        "imagenetv2-threshold-0.7-format-val",
        "imagenetv2-threshold0.7",
    )


@TEST_SETS.register("imagenet-v2-top-images")
@dataclasses.dataclass(frozen=True)
class V2TopImages(_V2):
    """ImageNet-V2, top images."""

    folders: ClassVar[tuple[str, ...]] = (
        "imagenetv2-top-images-format-val",
        "imagenetv2-topimages",
    )


@dataclasses.dataclass(frozen=True)
class _Two00:
    """A set over 200 of ImageNet's classes, under both conventions."""

    map: ClassVar[str] = ""
    source: ClassVar[str] = ""
    folders: ClassVar[tuple[str, ...]] = ()
    expected: ClassVar[str] = "200 folders of WordNet ids, or tar shards"

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        name, wnids = TEST_SETS.name_of(self), class_map(self.map)["wnids"]
        index = imagenet_index()
        classes = tuple(index[w] for w in wnids)
        conventions = (
            Convention("over its 200 classes", classes),
            Convention("over all 1000 classes"),
        )
        if shards := tar_shards(path):
            dataset = tar_dataset(shards)
            others = sorted(set(dataset.labels.tolist()) - set(classes))
            if others:
                first = class_map("imagenet")["wnids"][others[0]]
                listed = f"{len(others)} classes that are not in it ({first}, …)"
                raise layout_error(name, self, path, listed)
        else:
            dataset = self._folders(name, path, wnids)
        return [imagenet_set(name, dataset, conventions=conventions, source=self.source)]

    def _folders(self, name: str, path: Path, wnids: list[str]) -> Dataset:
        present, listed = [w for w in wnids if (path / w).is_dir()], subfolders(path)
        others = [f for f in listed if f not in set(wnids)]
        if not present or others:
            raise layout_error(name, self, path, describe_folder(path, others or listed))
        return folder_dataset(path, {w: imagenet_index()[w] for w in present})


@TEST_SETS.register("imagenet-a")
@dataclasses.dataclass(frozen=True)
class ImageNetA(_Two00):
    """ImageNet-A: natural images that fooled a ResNet-50."""

    map: ClassVar[str] = "imagenet_a"
    folders: ClassVar[tuple[str, ...]] = ("imagenet-a", "imagenet_a")
    source: ClassVar[str] = "https://github.com/hendrycks/natural-adv-examples"


@TEST_SETS.register("imagenet-r")
@dataclasses.dataclass(frozen=True)
class ImageNetR(_Two00):
    """ImageNet-R: paintings, toys, tattoos and other renditions."""

    map: ClassVar[str] = "imagenet_r"
    folders: ClassVar[tuple[str, ...]] = ("imagenet-r", "imagenet_r")
    source: ClassVar[str] = "https://github.com/hendrycks/imagenet-r"


@TEST_SETS.register("imagenet-sketch")
@dataclasses.dataclass(frozen=True)
class ImageNetSketch:
    """ImageNet-Sketch: black and white drawings of all 1000 classes."""

    folders: ClassVar[tuple[str, ...]] = (
        "imagenet-sketch",
        "imagenet_sketch",
        "ImageNet-Sketch",
        "sketch",
    )
    source: ClassVar[str] = "Wang et al. 2019, https://github.com/HaohanWang/ImageNet-Sketch"
    expected: ClassVar[str] = "1000 folders of WordNet ids, or tar shards"

    def read(self, path: Path) -> list[TestSet]:
        """Read the set."""
        name = TEST_SETS.name_of(self)
        if shards := tar_shards(path):
            return [imagenet_set(name, tar_dataset(shards), source=self.source)]
        folders = wnid_folders(path)
        if not folders:
            raise layout_error(name, self, path, describe_folder(path))
        return [imagenet_set(name, folder_dataset(path, folders), source=self.source)]
