"""The backgrounds challenge made of photographs with masks; each version is a set of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from vitreous.data.composites.backgrounds_challenge import VERSIONS, Version, is_challenge
from vitreous.errors import VitreousError
from vitreous.evaluation.test_sets.base import (
    TEST_SETS,
    Suite,
    TestSet,
    describe_folder,
    layout_error,
)
from vitreous.evaluation.test_sets.custom import Folder

SUITES: dict[Version, Suite] = {"original": "clean", "mixed_rand": "shifts"}
UNFINISHED = "it is not finished, or was changed; make it again by the command that made it"


@TEST_SETS.register("backgrounds-challenge")
@dataclasses.dataclass(frozen=True)
class BackgroundsChallengeSets:
    """What `vitreous evaluate --generate.factor backgrounds_challenge` wrote.

    Labels are read as those of the set `folder`. The originals are a clean set, `mixed_rand` is a
    shift, and the others say what part the background has.

    Attributes:
        name: How results call it, before the version; the folder's name by default.
        class_map: A JSON file, see `folder`.
        class_names: Names of the model's classes, in order.
        num_classes: How many classes the model has.
    """

    name: str = ""
    class_map: Path | None = None
    class_names: tuple[str, ...] = ()
    num_classes: int = 0

    folders: ClassVar[tuple[str, ...]] = ("backgrounds_challenge",)
    source: ClassVar[str] = (
        "your photographs, as https://github.com/MadryLab/backgrounds_challenge has it: vitreous "
        "evaluate --generate.cutouts PHOTOS --generate.masks MASKS "
        "--generate.factor backgrounds_challenge"
    )
    expected: ClassVar[str] = f"the folders {', '.join(VERSIONS)} with the same images"

    def read(self, path: Path) -> list[TestSet]:
        """Read all versions.

        Raises:
            VitreousError: If they are not there, or not of the same images.
        """
        if not is_challenge(path):
            raise layout_error("backgrounds-challenge", self, path, describe_folder(path))
        sets = []
        for version in VERSIONS:
            reader = Folder(
                class_map=self.class_map,
                class_names=self.class_names,
                num_classes=self.num_classes,
                name=f"{self.name or path.resolve().name}-{version}",
            )
            if not (path / version).is_dir():
                raise VitreousError(f"{path} has no {version}/: {UNFINISHED}")
            (part,) = reader.read(path / version)
            place, suite = str((path / version).resolve()), SUITES.get(version, "backgrounds")
            own = {"version": version, "suite": suite, "source": place, "place": place}
            sets.append(dataclasses.replace(part, **own))
        first = _names(sets[0])
        for other in sets[1:]:
            if differ := first ^ _names(other):
                raise VitreousError(
                    f"{path}: {sets[0].version} and {other.version} hold different images, for "
                    f"example {min(differ)}: {UNFINISHED}"
                )
        return sets


def _names(test_set: TestSet) -> set[str]:
    return {test_set.dataset.name(index) for index in range(len(test_set))}
