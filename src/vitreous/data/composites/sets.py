"""Sets of composites: what is shown where, as a dataset or as a folder."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from vitreous.data.composites.compositing import (
    Composite,
    Factor,
    Placement,
    composite,
    placements,
    share_inside,
)
from vitreous.data.composites.cutouts import AnyCutout, open_background
from vitreous.data.dataset import Dataset
from vitreous.data.decoding import reduced_decoding
from vitreous.data.listing import list_files
from vitreous.errors import VitreousError, shorten
from vitreous.fingerprint import digest
from vitreous.io import atomic_path, file_stamp, read_json, write_csv, write_json
from vitreous.progress import ProgressBar

PLAN_FILE = "plan.json"
VARIED = {
    "location": ("x", "y"),
    "rotation": ("area", "rotation"),
    "size": ("area",),
    "random": ("x", "y", "area", "rotation"),
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """What one image of a set shows: rows of the set's cut-outs and backgrounds, and where."""

    cutout: int
    background: int
    placement: Placement


@dataclasses.dataclass(frozen=True)
class Plan:
    """A set of composites, drawn when read.

    Attributes:
        cutouts: The cut-outs, with their labels.
        backgrounds: Image files; each is cropped to a square.
        scenes: What each image shows.
        class_names: Names of the labels.
        size: Height and width of the images in pixels.
    """

    cutouts: Sequence[AnyCutout]
    backgrounds: Sequence[Path]
    scenes: Sequence[Scene]
    class_names: Sequence[str]
    size: int = 500

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        """Relative path of the image: class and number."""
        label = self.cutouts[self.scenes[index].cutout].label
        return f"{self.class_names[label]}/{index:06d}.png"

    def compose(self, index: int) -> Composite:
        """Draw one image."""
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
            with reduced_decoding(None):  # its parts are pasted by their pixels
                self._last = (index, self.plan.compose(index))
        return self._last[1]

    def open(self, index: int) -> Image.Image:
        """Draw one as RGB; raises `ImageError` where a file cannot be read."""
        return self.compose(index).image

    def stamp(self, index: int) -> tuple[int, ...]:
        """A checksum of the placement, and the stamps of cut-out and background."""
        scene = self.plan.scenes[index]
        cutout, ground = self.plan.cutouts[scene.cutout], self.plan.backgrounds[scene.background]
        about = (scene.placement, self.plan.size, cutout.name, str(ground))
        return (zlib.crc32(repr(about).encode()), *cutout.stamp(), *file_stamp(ground))

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
    cutouts: Sequence[AnyCutout],
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
        steps: Length of the grid (see `placements`); for `random`, images of each cut-out and
            background (16 where not given).
        backgrounds_per_cutout: How many backgrounds show each cut-out; at most all of them.
        minimum_inside: Leave out placements with a smaller share of the box in the image.
            SI-Score used 0.95 for size and rotation; its authors now advise 0, because what is
            left out differs between classes.
        size: Of the images, in pixels.
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


def _inside_of(cutout: AnyCutout, placement: Placement, size: int) -> float:
    return share_inside(cutout.open().size, (size, size), placement)


def write_composites(items: Plan, folder: str | os.PathLike[str], factor: Factor) -> Path:
    """Write a set: `images/CLASS/n.png`, `masks/CLASS/n.png`, `images/factors.csv`, `metadata.csv`.

    Training takes it as `--data.images FOLDER/images --data.masks FOLDER/masks`. Images whose
    mask is there already are not drawn again, so an interrupted call goes on where it was.

    Returns:
        The folder.

    Raises:
        VitreousError: If the folder holds another set, or images that are not of this one.
    """
    root = Path(folder)
    cutouts = [(c.name, c.label) for c in items.cutouts]
    grounds = [path.name for path in items.backgrounds]
    about = [factor, items.size, cutouts, grounds, list(items.scenes), list(items.class_names)]
    names = [items.name(index) for index in range(len(items))]
    claim_plan(root, factor, names, about, kinds=("images", "masks"))
    for index in ProgressBar(range(len(items)), desc="compositing", unit="picture"):
        image, mask = root / "images" / items.name(index), root / "masks" / items.name(index)
        if mask.is_file() and image.is_file():
            continue
        made = items.compose(index)
        with atomic_path(image) as temporary:
            made.image.save(temporary)
        with atomic_path(mask) as temporary:
            Image.fromarray(((made.coverage >= 0.5) * 255).astype(np.uint8)).save(temporary)
    rows = [_row(items, index) for index in range(len(items))]
    varied, columns = ("path", *VARIED[factor]), tuple(rows[0])
    write_csv(root / "images" / "factors.csv", varied, ([r[c] for c in varied] for r in rows))
    write_csv(root / "metadata.csv", columns, (r.values() for r in rows))
    return root


def claim_plan(
    root: Path, kind: str, names: Sequence[str], about: object, *, kinds: Sequence[str]
) -> None:
    """Store the plan of a set in a new folder; refuse one that holds anything else.

    Args:
        root: The folder.
        kind: What the set varies.
        names: Relative paths of its images, `CLASS/n.png`.
        about: All that they follow from.
        kinds: Folders in `root` that hold such images.

    Raises:
        VitreousError: If the folder holds another set, or images that are not of this one, or a
            class has a name that no folder can have.
    """
    for label in sorted({name.rpartition("/")[0] for name in names}):
        if label.startswith(".") or not label.strip() or set(label) & set('/\\:*?"<>|\0'):
            raise VitreousError(
                f"class '{shorten(label)}' cannot be the name of a folder; give it another name"
            )
    own = {"factor": kind, "images": len(names), "plan": digest(about)}
    stored, expected = root / PLAN_FILE, set(names)
    if stored.is_file() and read_json(stored) != own:
        held = read_json(stored)
        told = f" ({held.get('factor')}, {held.get('images')})" if isinstance(held, dict) else ""
        raise VitreousError(
            f"{root} holds a set of another plan{told}: other photographs, settings or seed; "
            "choose another --out, or delete it"
        )
    present = [
        f"{folder}/{name}"
        for folder in kinds
        for name in (list_files(root / folder).images if (root / folder).is_dir() else ())
        if name not in expected or not stored.is_file()
    ]
    if present:
        raise VitreousError(
            f"{root} holds {len(present)} pictures that are not of this set, the first is "
            f"{present[0]}; choose another --out, or remove them"
        )
    write_json(stored, own)


def _row(items: Plan, index: int) -> dict[str, str | float]:
    scene = items.scenes[index]
    cutout = items.cutouts[scene.cutout]
    return {
        "path": items.name(index),
        "label": items.class_names[cutout.label],
        **dataclasses.asdict(scene.placement),
        "cutout": cutout.name,
        "background": items.backgrounds[scene.background].name,
        "inside": round(_inside_of(cutout, scene.placement, items.size), 4),
    }
