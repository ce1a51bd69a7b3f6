"""Cut-outs on backgrounds as a data source: pictures are drawn when they are read."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from vitreous.data.composites.compositing import Factor
from vitreous.data.composites.cutouts import Cutout, find_cutouts, no_cutouts
from vitreous.data.composites.sets import Plan, Scene, composites, plan
from vitreous.data.images import list_images
from vitreous.data.readers.base import READERS, Split
from vitreous.errors import VitreousError
from vitreous.ranges import PART, PIXELS, SHARE, at_least


@READERS.register("composites")
@dataclasses.dataclass(frozen=True)
class Composites:
    """RGBA cut-outs on backgrounds, with exact masks.

    Attributes:
        cutouts: Folder `CLASS/name.png` of RGBA cut-outs.
        backgrounds: Folder of background pictures.
        factor: What varies: `random` (all of it), `location`, `rotation` or `size`.
        steps: Pictures of each cut-out on each background (`random`), or length of the grid.
        backgrounds_per_cutout: How many backgrounds show each cut-out.
        minimum_inside: Least share of a cut-out's box that lies in the picture.
        size: Height and width of the pictures in pixels.
        validation_share: Share of the backgrounds that only validation shows (at least one
            where it is positive).
    """

    cutouts: str
    backgrounds: str
    factor: Factor = "random"
    steps: Annotated[int, at_least(1)] | None = None
    backgrounds_per_cutout: Annotated[int, at_least(1)] = 4
    minimum_inside: Annotated[float, SHARE] = 0.0
    size: Annotated[int, PIXELS] = 256
    validation_share: Annotated[float, PART] = 0.25

    def load(self, seed: int) -> Split:
        """Plan the pictures; training and validation share no background."""
        cutouts, names = find_cutouts(self.cutouts)
        grounds = list_images(self.backgrounds)
        held = max(round(len(grounds) * self.validation_share), 1) if self.validation_share else 0
        if held >= len(grounds):
            raise VitreousError(
                f"{self.backgrounds} holds {len(grounds)} background; expected 2 or more, or "
                "data.validation_share 0"
            )
        note = {"cutouts": [str(c.path) for c in cutouts], "backgrounds": [str(g) for g in grounds]}
        train = self._scenes(cutouts, grounds[held:], seed)
        kept = self._scenes(cutouts, grounds[:held], seed + 1) if held else []
        passed = no_cutouts(self.cutouts)
        shown = composites(Plan(cutouts, grounds[held:], train, names, self.size))
        return Split(
            dataclasses.replace(shown, left_out=passed),
            composites(Plan(cutouts, grounds[:held], kept, names, self.size)),
            note,
        )

    def _scenes(self, cutouts: list[Cutout], grounds: list, seed: int) -> list[Scene]:
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
