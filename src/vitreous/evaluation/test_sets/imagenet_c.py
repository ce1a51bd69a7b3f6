"""ImageNet-C: corruptions at five severities, each a part of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from vitreous.data.class_maps import class_map
from vitreous.data.readers.shards import tar_shards
from vitreous.evaluation.test_sets.base import (
    TEST_SETS,
    TestSet,
    describe_folder,
    folder_dataset,
    layout_error,
    subfolders,
)
from vitreous.evaluation.test_sets.imagenet import imagenet_set, tar_dataset, wnid_folders

PAPER = ("noise", "blur", "weather", "digital")


def corruption_names(groups: tuple[str, ...] = PAPER) -> tuple[str, ...]:
    """Names of the corruptions of some groups; by default the 15 that mCE is made of."""
    return tuple(c for g in groups for c in class_map("imagenet_c")["groups"][g])


@TEST_SETS.register("imagenet-c")
@dataclasses.dataclass(frozen=True)
class ImageNetC:
    """ImageNet-C: CORRUPTION/SEVERITY/WNID/image, or with the published archives' folders on top.

    The images are 224 px already and are not resized a second time (unless the model's input
    has another size).

    Attributes:
        corruptions: Which ones; none means all that are there, of the 15 and the 4 extra ones.
        severities: Which ones, 1 to 5.
    """

    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)

    folders: ClassVar[tuple[str, ...]] = ("imagenet-c", "ImageNet-C", "imagenet_c")
    source: ClassVar[str] = "Hendrycks and Dietterich 2019, https://github.com/hendrycks/robustness"
    expected: ClassVar[str] = (
        "CORRUPTION/SEVERITY/WNID/picture, for example gaussian_noise/1/n01440764, or tar shards "
        "in each CORRUPTION/SEVERITY"
    )

    def read(self, path: Path) -> list[TestSet]:
        """Read each corruption and severity as a part."""
        known = corruption_names((*PAPER, "extra"))
        places = self._places(path, known)
        wanted = self.corruptions or tuple(c for c in known if c in places)
        missing = [c for c in wanted if c not in places]
        if missing or not wanted:
            layout = f"no {missing[0]}" if missing else describe_folder(path)
            raise layout_error("imagenet-c", self, path, layout)
        return [self._part(places[c], c, s) for c in wanted for s in self.severities]

    def _places(self, path: Path, known: tuple[str, ...]) -> dict[str, Path]:
        """Find each corruption's folder, directly or one level below (blur/, noise/, …)."""
        below = [path, *(path / f for f in subfolders(path) if f not in known)]
        return {c: p / c for p in reversed(below) for c in subfolders(p) if c in known}

    def _part(self, place: Path, corruption: str, severity: int) -> TestSet:
        folder = place / str(severity)
        if shards := tar_shards(folder):
            dataset = tar_dataset(shards)
        elif folder.is_dir() and (folders := wnid_folders(folder)):
            dataset = folder_dataset(folder, folders)
        else:
            layout = describe_folder(folder) if folder.is_dir() else "nothing"
            raise layout_error("imagenet-c", self, folder, layout)
        return imagenet_set(
            "imagenet-c",
            dataset,
            resize_mode="as_is",
            suite="corruptions",
            settings={"corruption": corruption, "severity": severity},
            source=self.source,
        )
