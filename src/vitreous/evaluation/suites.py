"""Suites: which sets, where, with which settings; YAML in the package or of the user's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from vitreous.attribution import METHODS
from vitreous.config import build, read_yaml
from vitreous.data.dataset import UNKNOWN, Dataset
from vitreous.data.listing import left_out
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers import read_dataset
from vitreous.errors import VitreousError, nearest, shorten
from vitreous.evaluation.corruptions import CORRUPTIONS
from vitreous.evaluation.evaluators.corruption import Corruption
from vitreous.evaluation.evaluators.rotation import Rotation
from vitreous.evaluation.test_sets import TEST_SETS, TestSet, find_set, read_set, segmentation
from vitreous.evaluation.test_sets.segmentation import read_segmentation
from vitreous.fingerprint import named_content
from vitreous.models.class_words import imagenet_labels

OWN_PREDICTION = "labels that are no class of the model: its own prediction counts as right"
SEGMENTATION = "imagenet-segmentation"
SEGMENTATION_FILES = ("gtsegs_ijcv.mat", "imagenet-segmentation/gtsegs_ijcv.mat")


@dataclasses.dataclass(frozen=True)
class SetSettings:
    """One test set of a suite.

    Attributes:
        name: Name in `vitreous.evaluation.test_sets.TEST_SETS`.
        path: Its folder; looked for below the root by its usual names where not given.
        settings: Settings of its reader.
    """

    name: str
    path: Path | None = None
    settings: dict[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in TEST_SETS:
            raise ValueError(f"unknown test set '{self.name}'; {nearest(self.name, TEST_SETS)}")

    def find(self, root: Path | None) -> Path | None:
        """Find its folder (None if it is not there)."""
        if self.path is not None:
            path = self.path if self.path.is_absolute() or root is None else root / self.path
            return path if path.exists() else None
        return find_set(self.name, root) if root is not None else None

    def read(self, path: Path, **model: object) -> list[TestSet]:
        """Read its parts; `model` says what readers that ask for it need to know of the model."""
        asked = {f.name for f in dataclasses.fields(TEST_SETS[self.name])}  # ty: ignore
        settings = {k: v for k, v in model.items() if k in asked}
        given = self.settings.items()
        settings |= {k: tuple(v) if isinstance(v, list) else v for k, v in given}
        try:
            return read_set(self.name, path, **settings)
        except TypeError as error:
            raise VitreousError(f"{self.name}: {error}") from error


@dataclasses.dataclass(frozen=True)
class MaskedSettings:
    """One masked set of a suite.

    Attributes:
        name: `imagenet-segmentation` (the HDF5 file), or any name.
        path: The HDF5 file, or a folder of class folders with images.
        masks: The folder of masks, for such a folder.
        mask_format: How mask files are read: `binary`, or `imagenet_s`.
        class_map: JSON, label → classes of the model, see the test set `folder`.
    """

    name: str
    path: Path | None = None
    masks: Path | None = None
    mask_format: MaskFormat = "binary"
    class_map: Path | None = None

    def find(self, root: Path | None) -> Path | None:
        """Find its file or folder (None if it is not there)."""
        usual = SEGMENTATION_FILES if self.name == SEGMENTATION else ()
        places = [self.path] if self.path is not None else [Path(f) for f in usual]
        for place in places:
            path = place if place.is_absolute() or root is None else root / place
            if path.exists():
                return path
        return None

    def reading(self) -> dict[str, str]:
        """How masks and labels are read, for settings of records."""
        given = {"masks": self.masks, "class_map": self.class_map}
        return {name: named_content(path) for name, path in given.items() if path is not None}

    def read(self, path: Path, classes: tuple[str, ...]) -> Dataset:
        """Open it; labels are those of the class map, else places in `classes`.

        A label that is neither is -1, and named among what was left out: its images are scored
        against the model's own prediction.

        Raises:
            VitreousError: If it is not what it should be.
        """
        if path.suffix == ".mat":
            return read_segmentation(path)
        dataset = self._labelled(path, classes)
        if dataset.masks is None:
            raise VitreousError(f"{self.name}: give the folder of masks of {path}")
        return dataset

    def _labelled(self, path: Path, classes: tuple[str, ...]) -> Dataset:
        if self.class_map is not None:
            settings = {"class_names": classes, "num_classes": len(classes), "masks": self.masks}
            (test_set,) = read_set(
                "folder",
                path,
                class_map=self.class_map,
                mask_format=self.mask_format,
                **settings,
            )
            return test_set.class_labels()
        dataset = read_dataset(path, masks=self.masks, mask_format=self.mask_format)
        names = dataset.class_names
        if not names or (len(names) == len(classes) and not set(names) <= set(classes)):
            return dataset
        placed = imagenet_labels(names, classes)
        if placed is not None:
            labels = np.array([*placed, UNKNOWN], dtype=np.int64)[dataset.labels]
            return dataclasses.replace(dataset, labels=labels, class_names=classes)
        table = [classes.index(n) if n in classes else UNKNOWN for n in names]
        labels = np.array([*table, UNKNOWN], dtype=np.int64)[dataset.labels]
        unknown = [name for name in names if name not in classes]
        passed = (*dataset.left_out, *left_out({OWN_PREDICTION: unknown}))
        return dataclasses.replace(dataset, labels=labels, class_names=classes, left_out=passed)


@dataclasses.dataclass(frozen=True)
class Suite:
    """A list of measurements.

    Attributes:
        description: What it is, in a line.
        sets: Test sets.
        rotation: Angles in degrees at which every clean set (where there is none, every set) is
            measured again.
        disc: Turn only the inscribed disc, see `Rotation`.
        perturbations: A corruption of ImageNet-C → severities at which these sets are
            measured again.
        masked: Masked sets on which explanations are measured.
        methods: Relevance methods for these.
        removal: Remove pixels by their relevance, too.
        benchmark: Measure how far the methods can be believed, too.

    Examples:
        >>> suite = Suite(sets=(SetSettings("imagenet-a"),), rotation=(90.0, 180.0))
        >>> suite.sets[0].name, suite.methods
        ('imagenet-a', ('gradient_attention',))
    """

    description: str = ""
    sets: tuple[SetSettings, ...] = ()
    rotation: tuple[float, ...] = ()
    disc: bool = False
    perturbations: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    masked: tuple[MaskedSettings, ...] = ()
    methods: tuple[str, ...] = ("gradient_attention",)
    removal: bool = True
    benchmark: bool = False

    def __post_init__(self) -> None:
        for kind in self.perturbations:
            if kind not in CORRUPTIONS:
                raise ValueError(f"unknown perturbation '{kind}'; {nearest(kind, CORRUPTIONS)}")
        for method in self.methods:
            METHODS[method]  # an unknown name is refused before anything is measured

    def all_perturbations(self) -> Iterator[Rotation | Corruption]:
        """What is done to the images of clean sets, one after the other."""
        angles = [float(a) for a in self.rotation if a % 360]
        if self.disc and angles:
            angles.insert(0, 0.0)
        yield from (Rotation(a, self.disc) for a in angles)
        for kind, severities in self.perturbations.items():
            yield from (build(Corruption, {"kind": kind, "severity": s}) for s in severities)


def suite_names() -> list[str]:
    """Names of the suites in the package."""
    folder = resources.files("vitreous.evaluation") / "suites"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith("yaml"))


def load_suite(name: str) -> Suite:
    """Read a suite of the package by its name, or a YAML file.

    Raises:
        VitreousError: For an unknown name, or settings that do not fit.

    Examples:
        >>> suite = load_suite("imagenet-shifts")
        >>> suite.sets[0].name, len(suite.sets)
        ('imagenet-val', 12)
    """
    if name.endswith((".yaml", ".yml")):
        return build(Suite, read_yaml(Path(name)), "")
    if name not in suite_names():
        raise VitreousError(f"unknown suite '{shorten(name)}'; {nearest(name, suite_names())}")
    with resources.as_file(resources.files("vitreous.evaluation") / "suites" / f"{name}.yaml") as f:
        return build(Suite, read_yaml(f), "")


def combine_suites(suites: list[Suite]) -> Suite:
    """Lay suites together, each set once."""
    sets = {repr(s): s for suite in suites for s in suite.sets}
    masked = {repr(s): s for suite in suites for s in suite.masked}
    perturbations: dict[str, tuple[int, ...]] = {}
    for suite in suites:
        for kind, severities in suite.perturbations.items():
            merged = {*perturbations.get(kind, ()), *severities}
            perturbations[kind] = tuple(sorted(merged))
    methods = dict.fromkeys(m for suite in suites if suite.masked for m in suite.methods)
    return Suite(
        " + ".join(s.description for s in suites if s.description),
        tuple(sets.values()),
        tuple(sorted({a for suite in suites for a in suite.rotation})),
        any(s.disc for s in suites),
        perturbations,
        tuple(masked.values()),
        tuple(methods) or ("gradient_attention",),
        all(s.removal for s in suites),
        any(s.benchmark for s in suites),
    )


def source_of(name: str) -> str:
    """Where a set comes from, for messages about missing ones."""
    return segmentation.SOURCE if name not in TEST_SETS else TEST_SETS[name].source
