"""Cut-outs on backgrounds with controlled place, size and rotation, and with exact masks.

The protocol of SI-Score (Djolonga et al. 2021, appendix D, and Yung et al. 2021): one factor
varies on a grid, everything else stays; each cut-out is shown on the same few backgrounds at
every value. Everything follows from a seed; nothing is drawn before it is read.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitreous.errors import VitreousError

Factor = Literal["location", "rotation", "size", "random"]
Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a cut-out is put.

    Attributes:
        x: Centre of its box as a share of the image's width, 0 = left.
        y: Centre of its box as a share of the image's height, 0 = top.
        area: Area of its upright box as a share of the image's area, as in SI-Score; the object
            itself covers less.
        rotation: Degrees counterclockwise, about the centre of the box.
    """

    x: float = 0.5
    y: float = 0.5
    area: float = 0.2
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.area <= 4:
            raise ValueError(f"area: expected a share above 0 and at most 4, found {self.area}")


@dataclasses.dataclass(frozen=True)
class Composite:
    """A cut-out on a background.

    Attributes:
        image: RGB image.
        coverage: (H, W) float32 in [0, 1], the opacity of the cut-out.
        inside: Share of the placed box that lies within the image.
    """

    image: Image.Image
    coverage: np.ndarray
    inside: float

    @property
    def mask(self) -> Tensor:
        """(1, H, W) float32: 1 where the cut-out covers at least half of the pixel."""
        return torch.from_numpy((self.coverage >= 0.5).astype(np.float32))[None]


def box_of(inside: np.ndarray) -> Box:
    """Left, top, right and bottom of what an (H, W) bool array covers, ends exclusive.

    Nothing covered gives (0, 0, 0, 0).
    """
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def composite(cutout: Image.Image, background: Image.Image, placement: Placement) -> Composite:
    """Put a cut-out on a background.

    Args:
        cutout: RGBA, cropped to its object (`open_cutout` does).
        background: RGB, already of the wanted size.
        placement: Where, how large and how turned.

    Returns:
        The image, with the opacity from which it was blended.
    """
    placed = cutout.resize(
        _scaled(cutout.size, background.size, placement), Image.Resampling.BILINEAR
    )
    if placement.rotation % 360:
        placed = placed.rotate(placement.rotation, Image.Resampling.BICUBIC, expand=True)
    layer = Image.new("RGBA", background.size)
    layer.paste(placed, _corner(placed.size, background.size, placement))
    image = Image.alpha_composite(background.convert("RGBA"), layer).convert("RGB")
    coverage = np.asarray(layer.getchannel("A"), np.float32) / 255
    return Composite(image, coverage, _inside(placed.size, background.size, placement))


def share_inside(
    cutout_size: tuple[int, int], frame: tuple[int, int], placement: Placement
) -> float:
    """Share of the placed box that would lie within the image, without drawing it.

    Args:
        cutout_size: Width and height of the cropped cut-out.
        frame: Width and height of the image.
        placement: Where, how large and how turned.
    """
    box = _scaled(cutout_size, frame, placement)
    if placement.rotation % 360:
        box = Image.new("1", box).rotate(placement.rotation, expand=True).size
    return _inside(box, frame, placement)


def _scaled(
    cutout: tuple[int, int], frame: tuple[int, int], placement: Placement
) -> tuple[int, int]:
    scale = (placement.area * frame[0] * frame[1] / (cutout[0] * cutout[1])) ** 0.5
    return max(round(cutout[0] * scale), 1), max(round(cutout[1] * scale), 1)


def _corner(box: tuple[int, int], frame: tuple[int, int], placement: Placement) -> tuple[int, int]:
    return round(placement.x * frame[0] - box[0] / 2), round(placement.y * frame[1] - box[1] / 2)


def _inside(box: tuple[int, int], frame: tuple[int, int], placement: Placement) -> float:
    left, top = _corner(box, frame, placement)
    across = max(min(left + box[0], frame[0]) - max(left, 0), 0)
    down = max(min(top + box[1], frame[1]) - max(top, 0), 0)
    return across * down / (box[0] * box[1])


def placements(
    factor: Factor, steps: int | None = None, *, count: int = 16, seed: int = 0
) -> list[Placement]:
    """The placements of one set.

    Args:
        factor: `location`: a grid of centres, area 0.2. `rotation`: 1°, 21°, … 341° at areas 0.2,
            0.5, 0.8 and 1 (never a quarter turn, which would be less blurred than the others).
            `size`: areas 0.01, 0.02, … 1 in the centre. `random`: all drawn at once, areas 0.05
            to 0.5, centres 0.25 to 0.75.
        steps: Length of the grid: 21 × 21 centres, 18 angles, 100 areas where not given.
        count: How many are drawn for `random`.
        seed: For `random`.
    """
    if steps is not None and steps < 2:
        raise VitreousError(f"expected 2 or more steps of {factor}, found {steps}")
    if factor == "location":
        grid = np.linspace(0, 1, steps or 21).round(4).tolist()
        return [Placement(x, y) for x in grid for y in grid]
    if factor == "rotation":
        angles = (1 + np.arange(steps or 18) * 360 / (steps or 18)).round(4).tolist()
        return [Placement(area=a, rotation=r) for a in (0.2, 0.5, 0.8, 1.0) for r in angles]
    if factor == "size":
        return [Placement(area=a) for a in np.linspace(0.01, 1, steps or 100).round(4).tolist()]
    random = np.random.default_rng(seed)
    rows = random.uniform((0.25, 0.25, 0.05, 0.0), (0.75, 0.75, 0.5, 360.0), (count, 4))
    return [Placement(*row) for row in rows.round(4).tolist()]
