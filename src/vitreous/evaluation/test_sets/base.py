"""What a test set is: images, accepted classes and the conventions under which it is scored."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypedDict

import numpy as np

from vitreous.data.dataset import UNKNOWN, Dataset, LeftOut
from vitreous.data.listing import NO_IMAGES, is_image, left_out, list_files
from vitreous.data.stores import FileImages
from vitreous.errors import VitreousError
from vitreous.registry import Registry

ResizeMode = Literal["model", "whole", "as_is", "squash"]
NO_CLASS = "folders that are no class of this set"
Suite = Literal["clean", "shifts", "backgrounds", "corruptions"]


@dataclasses.dataclass(frozen=True)
class Convention:
    """A rule of decision, named in every result that it gives.

    Attributes:
        name: How results call it.
        classes: The decision is taken among these classes; None for all of the model's.
        groups: The decision is taken among groups of classes: a group's probability is the mean
            over its classes. Targets are group numbers then.
        first_only: Of several accepted classes only the first counts as right.
    """

    name: str
    classes: tuple[int, ...] | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    first_only: bool = False


class Condition(TypedDict, total=False):
    """What was done to images, as records say it.

    Attributes:
        angle: Degrees of a rotation, counter-clockwise.
        disc: The rotation is within the inscribed disc.
        corruption: Kind of a corruption.
        severity: Its severity, 1 to 5.
    """

    angle: float
    disc: bool
    corruption: str
    severity: int


@dataclasses.dataclass(frozen=True)
class TestSet:
    """A set of images with what counts as right.

    Attributes:
        name: How results call it, for example `imagenet-a`.
        dataset: The images, with their targets as labels.
        targets: (N,) rows of `accepted`.
        accepted: For each target the model's classes that count as right; an empty one takes its
            images out of the count (ReaL labels have such).
        conventions: Rules under which it is scored; the first is the headline.
        target_names: A name for each target, for tables by class.
        num_classes: Classes that a model needs to have; 0 where any will do.
        resize_mode: `model`: the model's own resize and crop; `as_is`: images are ready,
            only resized where the model's input has another size; `squash`: resized to the input.
        border: Pixels cut off all around first.
        settings: What tells this part of a set from the others (corruption, severity).
        reading: How labels were read where that is not the usual way (a class map, a column), and
            so a setting of every record.
        grouping: The same of groups.
        factors: For sets that vary something: (N,) its value for each image, by its name.
        second: For cue conflict: (N,) targets of the texture.
        version: Of the backgrounds challenge: which version of the images it is.
        suite: `clean` for an ordinary test set, `shifts` for one that differs from training,
            `corruptions` for a part of a corrupted one, `backgrounds` for what is measured to
            know what a background does and is no shift (in `only_bg_t` low is good).
        source: Where the set comes from: an address, or its folder.
        place: Where it lies; two sets of one name are told apart by it.
    """

    __test__: ClassVar[bool] = False

    name: str
    dataset: Dataset
    targets: np.ndarray
    accepted: tuple[tuple[int, ...], ...]
    conventions: tuple[Convention, ...] = (Convention("all classes"),)
    target_names: tuple[str, ...] = ()
    num_classes: int = 0
    resize_mode: ResizeMode = "model"
    border: int = 0
    settings: Condition = dataclasses.field(default_factory=Condition)
    reading: dict[str, str] = dataclasses.field(default_factory=dict)
    grouping: dict[str, str] = dataclasses.field(default_factory=dict)
    factors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    second: np.ndarray | None = None
    version: str = ""
    suite: Suite = "shifts"
    source: str = ""
    place: str = ""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def class_labels(self) -> Dataset:
        """The dataset with classes of the model as labels: the first accepted one, -1 for none."""
        first = np.array([a[0] if a else UNKNOWN for a in self.accepted], dtype=np.int64)
        return dataclasses.replace(self.dataset, labels=first[self.targets], class_names=())

    def check(self, num_classes: int, model: str) -> None:
        """Refuse a model whose classes cannot be those of this set.

        Raises:
            VitreousError: Naming both numbers.
        """
        if self.num_classes and num_classes != self.num_classes:
            raise VitreousError(
                f"{self.name} is scored over {self.num_classes} classes, but {model} has "
                f"{num_classes}; choose another model, or read the folder with a class map "
                "(--data FOLDER --class-map MAP.json)"
            )


class TestSetReader(Protocol):
    """Frozen settings that read one kind of test set.

    Attributes:
        folders: Usual names of its folder, looked for below `--root`.
        source: Where it comes from, with an address.
        expected: Its layout, in words, for messages.
    """

    folders: ClassVar[tuple[str, ...]]
    source: ClassVar[str]
    expected: ClassVar[str]

    def read(self, path: Path) -> list[TestSet]:
        """Read the set, or its parts (one for each corruption and severity)."""
        ...


TEST_SETS: Registry[type[TestSetReader]] = Registry("test set", "vitreous.evaluation.test_sets")


def find_set(name: str, root: Path) -> Path | None:
    """Find a set's folder below `root` by its usual names (None if it is not there)."""
    for folder in (*TEST_SETS[name].folders, name):
        if (root / folder).exists():
            return root / folder
    return None


def read_set(name: str, path: str | os.PathLike[str], **settings: object) -> list[TestSet]:
    """Read a test set by its name.

    Args:
        name: Name in `TEST_SETS`, for example `imagenet-a`.
        path: Its folder.
        **settings: Settings of its reader.

    Raises:
        VitreousError: For an unknown name, or a folder that does not hold this set; the message
            says what was found, what is expected and where the set comes from.
    """
    reader = TEST_SETS[name](**settings)
    folder = Path(path)
    if not folder.exists():
        raise layout_error(name, reader, folder, "nothing")
    return reader.read(folder)


def layout_error(
    name: str, reader: TestSetReader | type[TestSetReader], path: Path, found: str
) -> VitreousError:
    """Make the error of a wrong layout: found, expected, and where the set comes from."""
    return VitreousError(
        f"{name}: found {found} at {path}; expected {reader.expected}. It comes from "
        f"{reader.source}"
    )


def single(count: int) -> tuple[tuple[int, ...], ...]:
    """Accepted classes where each class is its own only right answer."""
    return tuple((i,) for i in range(count))


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted (links to folders too)."""
    return contents(path)[2]


def contents(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of the images directly in a folder, of its other files and of its folders, sorted."""
    with os.scandir(path) as entries:
        found = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
    files = [name for name, is_folder in found if not is_folder]
    images, others = [n for n in files if is_image(n)], [n for n in files if not is_image(n)]
    return images, others, [name for name, is_folder in found if is_folder]


def file_names(path: Path) -> tuple[list[str], list[str]]:
    """Names of the image files directly in a folder, and of the other files, each sorted."""
    return contents(path)[:2]


def image_names(path: Path) -> list[str]:
    """Names of the image files directly in a folder, sorted."""
    return file_names(path)[0]


def file_dataset(
    root: Path,
    names: Sequence[str],
    targets: np.ndarray,
    passed: tuple[LeftOut, ...] = (),
) -> Dataset:
    """Image files below a folder, with their targets as labels."""
    return Dataset(FileImages(root, names), targets.astype(np.int64), left_out=passed)


def folder_dataset(path: Path, targets: dict[str, int], others: str = NO_CLASS) -> Dataset:
    """List the images of some subfolders, in the order of the mapping.

    Args:
        path: The folder of folders.
        targets: Subfolder → target.
        others: What its other subfolders are called; they are left out.

    Returns:
        The images, with their targets as labels.
    """
    names: list[str] = []
    numbers: list[int] = []
    deeper: list[str] = []
    beside, rest, folders = contents(path)
    strangers = beside + rest
    for folder, target in targets.items():
        images, rest, inner = contents(path / folder)
        deeper += [f"{folder}/{n}" for n in inner]
        names += [f"{folder}/{n}" for n in images]
        strangers += [f"{folder}/{n}" for n in rest]
        numbers += [target] * len(images)
    unknown = [name for name in folders if name not in targets]
    within = [f"{name}/{n}" for name in (*unknown, *deeper) for n in list_files(path / name).images]
    passed = left_out(
        {
            others: unknown,
            "folders inside those of classes": deeper,
            "images in these folders": within,
            "images in no class folder": [name for name in strangers if is_image(name)],
            NO_IMAGES: [name for name in strangers if not is_image(name)],
        }
    )
    return file_dataset(path, names, np.array(numbers, dtype=np.int64), passed)


def describe_folder(path: Path, names: Sequence[str] | None = None) -> str:
    """Say briefly what a folder holds, for messages."""
    if not path.is_dir():
        return "a file" if path.exists() else "nothing"
    folders = subfolders(path) if names is None else list(names)
    images = len(image_names(path))
    shown = ", ".join(folders[:3]) + (", …" if len(folders) > 3 else "")
    if not folders:
        return f"no folder and {images} images" if images else "an empty folder"
    # What lies in these folders is not counted, so that none beside them says nothing.
    beside = f" with {images} images beside them" if images else ""
    return f"{len(folders)} folder{'s' * (len(folders) > 1)} ({shown}){beside}"
