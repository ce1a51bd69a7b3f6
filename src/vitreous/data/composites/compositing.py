"""Cut-outs on backgrounds with controlled place, size and rotation, and with exact masks.

The protocol of SI-Score (Djolonga et al. 2021, appendix D, and Yung et al. 2021): one factor
varies on a grid, everything else stays; each cut-out is shown on the same few backgrounds at
every value. Everything follows from a seed; nothing is drawn before it is read.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitreous.data.composites.cutouts import Cutout, open_background
from vitreous.data.dataset import Dataset
from vitreous.data.stores.files import file_stamp
from vitreous.errors import VitreousError
from vitreous.io import atomic_path

Factor = Literal["location", "rotation", "size", "random"]
VARIED = {
    "location": ("x", "y"),
    "rotation": ("area", "rotation"),
    "size": ("area",),
    "random": ("x", "y", "area", "rotation"),
}


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a cut-out is put.

    Attributes:
        x: Centre of its box as a share of the picture's width, 0 = left.
        y: Centre of its box as a share of the picture's height, 0 = top.
        area: Area of its upright box as a share of the picture's area, as in SI-Score; the object
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
        image: RGB picture.
        coverage: (H, W) float32 in [0, 1], the opacity of the cut-out.
        inside: Share of the placed box that lies within the picture.
    """

    image: Image.Image
    coverage: np.ndarray
    inside: float

    @property
    def mask(self) -> Tensor:
        """(1, H, W) float32: 1 where the cut-out covers at least half of the pixel."""
        return torch.from_numpy((self.coverage >= 0.5).astype(np.float32))[None]


def composite(cutout: Image.Image, background: Image.Image, placement: Placement) -> Composite:
    """Put a cut-out on a background.

    Args:
        cutout: RGBA, cropped to its object (`open_cutout` does).
        background: RGB, already of the wanted size.
        placement: Where, how large and how turned.

    Returns:
        The picture, with the opacity from which it was blended.
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
    """Share of the placed box that would lie within the picture, without drawing it.

    Args:
        cutout_size: Width and height of the cropped cut-out.
        frame: Width and height of the picture.
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


@dataclasses.dataclass(frozen=True)
class Scene:
    """What one picture of a set shows: rows of the set's cut-outs and backgrounds, and where."""

    cutout: int
    background: int
    placement: Placement


@dataclasses.dataclass(frozen=True)
class Plan:
    """A set of composites, drawn when read.

    Attributes:
        cutouts: The cut-outs, with their labels.
        backgrounds: Picture files; each is cropped to a square.
        scenes: What each picture shows.
        class_names: Names of the labels.
        size: Height and width of the pictures in pixels.
    """

    cutouts: Sequence[Cutout]
    backgrounds: Sequence[Path]
    scenes: Sequence[Scene]
    class_names: Sequence[str]
    size: int = 500

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        """Relative path of the picture: class and number."""
        label = self.cutouts[self.scenes[index].cutout].label
        return f"{self.class_names[label]}/{index:06d}.png"

    def compose(self, index: int) -> Composite:
        """Draw one picture."""
        scene = self.scenes[index]
        background = open_background(self.backgrounds[scene.background], self.size)
        return composite(self.cutouts[scene.cutout].open(), background, scene.placement)


class CompositeImages:
    """The images of a plan, drawn when they are opened.

    Args:
        plan: What to draw.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self._last: tuple[int, Composite] | None = None

    def __len__(self) -> int:
        return len(self.plan)

    def name(self, index: int) -> str:
        """Class and number."""
        return self.plan.name(index)

    def compose(self, index: int) -> Composite:
        """Draw one; the last one is kept, since its mask is asked for next."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self.plan.compose(index))
        return self._last[1]

    def open(self, index: int) -> Image.Image:
        """Draw one as RGB; raises `ImageError` where a file cannot be read."""
        return self.compose(index).image

    def stamp(self, index: int) -> tuple[int, ...]:
        """A checksum of the placement, and the stamps of cut-out and background."""
        scene = self.plan.scenes[index]
        files = self.plan.cutouts[scene.cutout].path, self.plan.backgrounds[scene.background]
        placement = zlib.crc32(repr((scene.placement, self.plan.size, *map(str, files))).encode())
        return (placement, *(value for file in files for value in file_stamp(file)))

    def content(self, index: int) -> bytes:
        """The pixels."""
        return self.open(index).tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class CompositeMasks:
    """The exact masks of drawn images.

    Attributes:
        images: The images.
    """

    images: CompositeImages

    def has(self, index: int) -> bool:
        """All of them have one."""
        return True

    def open(self, index: int) -> Tensor | None:
        """Draw a mask (1, H, W) of 0 and 1."""
        return self.images.compose(index).mask

    def stamp(self, index: int) -> tuple[int, ...]:
        """The image's."""
        return self.images.stamp(index)

    def content(self, index: int) -> bytes:
        """The pixels."""
        return self.images.compose(index).mask.numpy().tobytes()


def composites(plan: Plan) -> Dataset:
    """The dataset of a plan, with exact masks; each cut-out's label is its class."""
    images = CompositeImages(plan)
    labels = np.array([plan.cutouts[s.cutout].label for s in plan.scenes], dtype=np.int64)
    return Dataset(images, labels, tuple(plan.class_names), CompositeMasks(images))


def plan(
    cutouts: Sequence[Cutout],
    backgrounds: Sequence[Path],
    factor: Factor,
    *,
    steps: int | None = None,
    backgrounds_per_cutout: int = 2,
    minimum_inside: float = 0.0,
    size: int = 500,
    seed: int = 0,
) -> list[Scene]:
    """Plan a set: every cut-out on its backgrounds at every placement.

    Args:
        cutouts: The cut-outs.
        backgrounds: The backgrounds; each cut-out gets its own few of them by the seed.
        factor: What varies.
        steps: Length of the grid (see `placements`); for `random`, pictures of each cut-out and
            background (16 where not given).
        backgrounds_per_cutout: How many backgrounds show each cut-out; at most all of them.
        minimum_inside: Leave out placements with a smaller share of the box in the picture.
            SI-Score used 0.95 for size and rotation; its authors now advise 0, because what is
            left out differs between classes.
        size: Of the pictures, in pixels.
        seed: Everything follows from it.

    Raises:
        VitreousError: If there are no cut-outs or backgrounds, or nothing is left.
    """
    if not cutouts or not backgrounds:
        raise VitreousError(f"found {len(cutouts)} cut-outs and {len(backgrounds)} backgrounds")
    random = np.random.default_rng(seed)
    few = min(backgrounds_per_cutout, len(backgrounds))
    chosen = [random.permutation(len(backgrounds))[:few].tolist() for _ in cutouts]
    scenes = []
    for row, cutout in enumerate(cutouts):
        for ground in chosen[row]:
            own = seed + 1_000_003 * row + ground
            for where in placements(factor, steps, count=steps or 16, seed=own):
                if minimum_inside <= 0 or _inside_of(cutout, where, size) >= minimum_inside:
                    scenes.append(Scene(row, ground, where))
    if not scenes:
        raise VitreousError(
            f"no placement leaves {minimum_inside:.0%} of a cut-out in the picture; lower "
            "minimum_inside"
        )
    return scenes


def _inside_of(cutout: Cutout, placement: Placement, size: int) -> float:
    return share_inside(cutout.open().size, (size, size), placement)


def write_composites(items: Plan, folder: str | os.PathLike[str], factor: Factor) -> Path:
    """Write a set: `images/CLASS/n.png`, `masks/CLASS/n.png`, `images/factors.csv`, `metadata.csv`.

    Training takes it as `--data.images FOLDER/images --data.masks FOLDER/masks`. Pictures whose
    mask is there already are not drawn again, so an interrupted call goes on where it was.

    Returns:
        The folder.
    """
    from tqdm import tqdm

    root = Path(folder)
    for index in tqdm(range(len(items)), desc="compositing", unit="picture", disable=None):
        image, mask = root / "images" / items.name(index), root / "masks" / items.name(index)
        if mask.is_file() and image.is_file():
            continue
        made = items.compose(index)
        with atomic_path(image) as temporary:
            made.image.save(temporary)
        with atomic_path(mask) as temporary:
            Image.fromarray(((made.coverage >= 0.5) * 255).astype(np.uint8)).save(temporary)
    rows = [_row(items, index) for index in range(len(items))]
    _write_table(root / "images" / "factors.csv", rows, ("path", *VARIED[factor]))
    _write_table(root / "metadata.csv", rows, tuple(rows[0]))
    return root


def _row(items: Plan, index: int) -> dict[str, str | float]:
    scene = items.scenes[index]
    cutout = items.cutouts[scene.cutout]
    return {
        "path": items.name(index),
        "label": items.class_names[cutout.label],
        **dataclasses.asdict(scene.placement),
        "cutout": cutout.path.name,
        "background": items.backgrounds[scene.background].name,
        "inside": round(_inside_of(cutout, scene.placement, items.size), 4),
    }


def _write_table(path: Path, rows: list[dict[str, str | float]], columns: tuple[str, ...]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
