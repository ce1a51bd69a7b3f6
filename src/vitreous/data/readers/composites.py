"""Cut-outs on backgrounds as a data source: images are drawn when they are read."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated

from vitreous.data.composites.compositing import Factor
from vitreous.data.composites.cutouts import AnyCutout, find_cutouts, no_cutouts
from vitreous.data.composites.photographs import photo_cutouts
from vitreous.data.composites.sets import Plan, Scene, composites, plan
from vitreous.data.dataset import LeftOut
from vitreous.data.images import list_images
from vitreous.data.readers.base import READERS, Split
from vitreous.data.readers.paths import read_dataset
from vitreous.errors import VitreousError
from vitreous.ranges import PART, PIXELS, SHARE, at_least


@dataclasses.dataclass(frozen=True)
class FoundCutouts:
    """Cut-outs, the names of their classes, and what was passed over."""

    cutouts: list[AnyCutout]
    class_names: list[str]
    left_out: tuple[LeftOut, ...]


def read_cutouts(
    path: str | os.PathLike[str], masks: str | os.PathLike[str] | None = None
) -> FoundCutouts:
    """Find cut-outs: RGBA files, or photographs of which masks cut them out.

    Args:
        path: Folder `CLASS/name.png` of RGBA files; photographs, where there are masks: anything
            that `read_dataset` reads.
        masks: Folder of masks matched by name; a CSV file and shards have masks of their own.

    Raises:
        VitreousError: If there are none.
    """
    if masks is None and os.path.isdir(path):
        cutouts, names = find_cutouts(path)
        return FoundCutouts([*cutouts], names, no_cutouts(path))
    photos = read_dataset(path, masks=masks, labelled=True)
    found = photo_cutouts(photos)
    if not found:
        raise VitreousError(f"{path} holds no photographs with masks; give a folder of masks")
    return FoundCutouts([*found], list(photos.class_names), photos.left_out)


@READERS.register("composites")
@dataclasses.dataclass(frozen=True)
class Composites:
    """Cut-outs on backgrounds, with exact masks.

    Attributes:
        cutouts: Folder `CLASS/name.png` of RGBA cut-outs, or photographs with masks.
        backgrounds: Folder of background images.
        factor: What varies: `random` (all of it), `location`, `rotation` or `size`.
        steps: Images of each cut-out on each background (`random`), or length of the grid.
        backgrounds_per_cutout: How many backgrounds show each cut-out.
        minimum_inside: Least share of a cut-out's box that lies in the image.
        size: Height and width of the images in pixels.
        validation_share: Share of the backgrounds that only validation shows (at least one
            where it is positive).
        masks: Folder of masks where `cutouts` are photographs; a CSV file has its own.
    """

    cutouts: str
    backgrounds: str
    factor: Factor = "random"
    steps: Annotated[int, at_least(1)] | None = None
    backgrounds_per_cutout: Annotated[int, at_least(1)] = 4
    minimum_inside: Annotated[float, SHARE] = 0.0
    size: Annotated[int, PIXELS] = 256
    validation_share: Annotated[float, PART] = 0.25
    masks: str | None = None

    def load(self, seed: int) -> Split:
        """Plan the images; training and validation share no background."""
        found = read_cutouts(self.cutouts, self.masks)
        cutouts, names = found.cutouts, found.class_names
        grounds = list_images(self.backgrounds)
        held = max(round(len(grounds) * self.validation_share), 1) if self.validation_share else 0
        if held >= len(grounds):
            raise VitreousError(
                f"{self.backgrounds} holds {len(grounds)} background; expected 2 or more, or "
                "data.validation_share 0"
            )
        note = {"cutouts": [c.name for c in cutouts], "backgrounds": [str(g) for g in grounds]}
        train = self._scenes(cutouts, grounds[held:], seed)
        kept = self._scenes(cutouts, grounds[:held], seed + 1) if held else []
        shown = composites(Plan(cutouts, grounds[held:], train, names, self.size))
        return Split(
            dataclasses.replace(shown, left_out=found.left_out),
            composites(Plan(cutouts, grounds[:held], kept, names, self.size)),
            note,
        )

    def _scenes(self, cutouts: list[AnyCutout], grounds: list, seed: int) -> list[Scene]:
        return plan(
            cutouts,
            grounds,
            self.factor,
            steps=self.steps,
            backgrounds_per_cutout=self.backgrounds_per_cutout,
            minimum_inside=self.minimum_inside,
            size=self.size,
            seed=seed,
        )
