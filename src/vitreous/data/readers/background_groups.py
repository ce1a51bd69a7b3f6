"""Objects of photographs on kinds of backgrounds that go with their class, as Waterbirds has it."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from vitreous.data.composites.cutouts import AnyCutout
from vitreous.data.composites.groups import Kinds, find_kinds, grouped, plan_groups
from vitreous.data.composites.sets import Plan
from vitreous.data.dataset import Dataset
from vitreous.data.readers.base import READERS, Split, split_by_class
from vitreous.data.readers.composites import read_cutouts
from vitreous.errors import VitreousError
from vitreous.ranges import PART, PIXELS, SEED, SHARE, above, at_least

VALIDATION_SEED = 500_009


@READERS.register("background_groups")
@dataclasses.dataclass(frozen=True)
class BackgroundGroups:
    """Cut-out objects on backgrounds of several kinds; a group is a class on a kind.

    Attributes:
        objects: Photographs with masks (anything that `folders` reads), or RGBA cut-outs.
        backgrounds: Folder `KIND/**/image` of backgrounds, for example `land` and `water`.
        masks: Folder of the photographs' masks, matched by name; a CSV file has its own.
        homes: For each class, in the order of their names, the kind where it is at home; the
            classes get the kinds in turn where not given.
        agreement: Share of the training images whose background is of their class's own kind.
        balanced: Show each training object on every kind as often instead: groups of one size.
        per_object: Training images of each object; with balanced groups, of each kind.
        area: Least and largest share of the image that the box of an object takes.
        size: Height and width of the images in pixels.
        validation_share: Share of each class's objects, and of each kind's backgrounds, that only
            validation shows, each on every kind: its groups are of one size.
        scenes_seed: Everything in the images follows from it; the run's seed plays no part, so
            that runs can be compared.
    """

    objects: str
    backgrounds: str
    masks: str | None = None
    homes: tuple[str, ...] = ()
    agreement: Annotated[float, SHARE] = 0.95
    balanced: bool = False
    per_object: Annotated[int, at_least(1)] = 1
    area: Annotated[tuple[float, float], above(0, at_most=1)] = (0.1, 0.35)
    size: Annotated[int, PIXELS] = 224
    validation_share: Annotated[float, PART] = 0.2
    scenes_seed: Annotated[int, SEED] = 0

    def load(self, seed: int) -> Split:
        """Plan the images; training and validation share no object and no background.

        Raises:
            VitreousError: If objects or backgrounds are missing or too few, or `homes` does not fit
                them.
        """
        found = read_cutouts(self.objects, self.masks)
        names = found.class_names
        kinds = find_kinds(self.backgrounds, names, self.homes)
        labels = [cutout.label for cutout in found.cutouts]
        shown, held = split_by_class(labels, self.scenes_seed, None, self.validation_share)
        train_kinds, held_kinds = self._split(kinds)
        agreement = None if self.balanced else self.agreement
        train = self._dataset(
            [found.cutouts[i] for i in shown], names, train_kinds, agreement, self.per_object
        )
        validation = train.select([])
        if held:
            kept = [found.cutouts[i] for i in held]
            validation = self._dataset(kept, names, held_kinds, None, 1, VALIDATION_SEED)
        note = {"homes": {n: list(kinds.files)[h] for n, h in zip(names, kinds.homes)}}
        train = dataclasses.replace(train, left_out=found.left_out)
        return Split(train, validation, {**note, "groups": group_counts(train)})

    def _split(self, kinds: Kinds) -> tuple[Kinds, Kinds]:
        """Backgrounds for training, and for validation."""
        if not self.validation_share:
            return kinds, kinds
        flat = kinds.backgrounds
        chosen, held = split_by_class(
            kinds.of_background, self.scenes_seed, None, self.validation_share
        )
        parts = [
            {
                name: [flat[i] for i in part if kinds.of_background[i] == kind]
                for kind, name in enumerate(kinds.files)
            }
            for part in (chosen, held)
        ]
        if empty := [name for part in parts for name, files in part.items() if not files]:
            raise VitreousError(
                f"{self.backgrounds} holds one background of the kind {empty[0]}; expected 2 or "
                "more of each, or data.validation_share 0"
            )
        return Kinds(parts[0], kinds.homes), Kinds(parts[1], kinds.homes)

    def _dataset(
        self,
        cutouts: list[AnyCutout],
        names: list[str],
        kinds: Kinds,
        agreement: float | None,
        per_cutout: int,
        offset: int = 0,
    ) -> Dataset:
        scenes = plan_groups(
            cutouts,
            kinds,
            agreement=agreement,
            per_cutout=per_cutout,
            area=self.area,
            seed=self.scenes_seed + offset,
        )
        return grouped(Plan(cutouts, kinds.backgrounds, scenes, names, self.size), kinds)


def group_counts(dataset: Dataset) -> dict[str, int]:
    """Images of each group, by its name; groups without a name are called by their number."""
    if dataset.groups is None:
        return {}
    counts = np.bincount(dataset.groups[dataset.groups >= 0]).tolist()
    named = dict(enumerate(dataset.group_names))
    return {named.get(group, str(group)): count for group, count in enumerate(counts)}
