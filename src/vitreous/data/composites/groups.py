"""Objects on kinds of backgrounds that go with their class, after Waterbirds (Sagawa et al. 2020).

A group is a class on a kind of background. In training most images of a class have the kind where
it is at home, so that a model may read the background; the test groups are of one size.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vitreous.data.composites.compositing import Placement
from vitreous.data.composites.cutouts import AnyCutout
from vitreous.data.composites.sets import Plan, Scene, composites, write_composites
from vitreous.data.dataset import Dataset
from vitreous.data.images import list_images
from vitreous.errors import VitreousError, nearest
from vitreous.io import write_csv

LIST_FILE = "list.csv"


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Backgrounds by kind.

    Attributes:
        files: Kind → its background files.
        homes: For each class the number of the kind where it is at home.
    """

    files: Mapping[str, Sequence[Path]]
    homes: Sequence[int]

    @property
    def backgrounds(self) -> list[Path]:
        """All backgrounds, kind by kind."""
        return [path for files in self.files.values() for path in files]

    @property
    def of_background(self) -> np.ndarray:
        """(backgrounds,) number of the kind of each."""
        return np.repeat(np.arange(len(self.files)), [len(f) for f in self.files.values()])


def find_kinds(
    folder: str | os.PathLike[str], classes: Sequence[str], homes: Sequence[str] = ()
) -> Kinds:
    """List backgrounds `FOLDER/KIND/**/image`, and say where each class is at home.

    Args:
        folder: Where they are.
        classes: Names of the classes, in the order of the labels.
        homes: Kind of each class; where not given, the classes get the kinds in turn.

    Raises:
        VitreousError: If there are not two kinds, or `homes` does not fit.
    """
    root = Path(folder).expanduser()
    files: dict[str, list[Path]] = {}
    for path in list_images(root):
        parts = path.relative_to(root).parts
        if len(parts) > 1:
            files.setdefault(parts[0], []).append(path)
    names = sorted(files)
    if len(names) < 2:
        raise VitreousError(
            f"{root} holds {len(names)} kind of background; expected 2 or more folders "
            f"{root}/KIND/image.jpg"
        )
    if homes and len(homes) != len(classes):
        raise VitreousError(f"homes: expected one for each of {len(classes)} classes, {homes=}")
    if unknown := [home for home in homes if home not in files]:
        raise VitreousError(f"homes: no backgrounds '{unknown[0]}'; {nearest(unknown[0], names)}")
    numbers = [names.index(home) for home in homes]
    return Kinds(
        {name: files[name] for name in names},
        numbers or [label % len(names) for label in range(len(classes))],
    )


def plan_groups(
    cutouts: Sequence[AnyCutout],
    kinds: Kinds,
    *,
    agreement: float | None,
    per_cutout: int = 1,
    area: tuple[float, float] = (0.1, 0.35),
    seed: int = 0,
) -> list[Scene]:
    """Plan a set: which cut-out is on which background, and where.

    Args:
        cutouts: The cut-outs, with their labels.
        kinds: The backgrounds.
        agreement: Share of each class's images whose background is of the class's own kind, met as
            nearly as whole images allow; the others are dealt among the other kinds. None shows
            each cut-out on every kind as often, so that groups are balanced.
        per_cutout: Images of each cut-out; with balanced groups, of each kind.
        area: Least and largest share of the image that the box of a cut-out takes.
        seed: Everything follows from it.

    Raises:
        VitreousError: If there are no cut-outs, or an area is no share.
    """
    if not cutouts:
        raise VitreousError("found no cut-outs to put on backgrounds")
    if not 0 < area[0] <= area[1] <= 1:
        raise VitreousError(f"area: expected two shares in order, above 0, found {list(area)}")
    random = np.random.default_rng(seed)
    labels = np.array([cutout.label for cutout in cutouts])
    scenes = []
    for label in np.unique(labels).tolist():
        rows = np.repeat(np.flatnonzero(labels == label), per_cutout)
        shown = _kinds_of(len(rows), kinds.homes[label], len(kinds.files), agreement, random)
        pairs = [(row, kind) for row, several in zip(rows.tolist(), shown) for kind in several]
        scenes += [
            Scene(row, _background(kinds, kind, random), _placement(area, random))
            for row, kind in pairs
        ]
    return scenes


def _kinds_of(
    count: int, home: int, kinds: int, agreement: float | None, random: np.random.Generator
) -> list[list[int]]:
    """For each of some images of one class the kinds of background that it is shown on."""
    if agreement is None:
        return [list(range(kinds))] * count
    others = [kind for kind in range(kinds) if kind != home]
    away = count - round(agreement * count)
    dealt = np.array([others[i % len(others)] for i in range(away)] + [home] * (count - away))
    return [[kind] for kind in random.permutation(dealt).tolist()]


def _background(kinds: Kinds, kind: int, random: np.random.Generator) -> int:
    return int(random.choice(np.flatnonzero(kinds.of_background == kind)))


def _placement(area: tuple[float, float], random: np.random.Generator) -> Placement:
    x, y, size = random.uniform((0.35, 0.35, area[0]), (0.65, 0.65, area[1])).round(4).tolist()
    return Placement(x, y, size)


def grouped(items: Plan, kinds: Kinds) -> Dataset:
    """The dataset of a plan, with exact masks and its groups, `CLASS on KIND`."""
    shown = composites(items)
    places = np.array([scene.background for scene in items.scenes], dtype=np.int64)
    groups = shown.labels * len(kinds.files) + kinds.of_background[places]
    names = tuple(f"{c} on {kind}" for c in items.class_names for kind in kinds.files)
    return dataclasses.replace(shown, groups=groups, group_names=names)


def write_groups(items: Plan, kinds: Kinds, folder: str | os.PathLike[str]) -> Path:
    """Write a set as `write_composites` does, with `list.csv`: path, label, mask, group.

    Training takes the list as `--data.images FOLDER/list.csv`, `vitreous evaluate` as `--data`.

    Returns:
        The folder.
    """
    root = write_composites(items, folder, "random")
    shown = grouped(items, kinds)
    rows = [
        (
            f"images/{shown.name(index)}",
            shown.class_names[shown.label(index)],
            f"masks/{shown.name(index)}",
            shown.group_names[shown.group(index)],
        )
        for index in range(len(shown))
    ]
    write_csv(root / LIST_FILE, ("path", "label", "mask", "group"), rows)
    return root
