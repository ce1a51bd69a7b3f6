"""Photographs and the same with their backgrounds changed: the backgrounds challenge's versions.

The construction of Xiao et al. 2021 ("Noise or Signal: The Role of Image Backgrounds in Object
Recognition", section 2 and appendix A, ImageNet-9) from anyone's photographs with masks. The object
stays where it is; a background is the largest strip beside the object's box, tiled over the image.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from vitreous.data.composites.compositing import Box, box_of
from vitreous.data.composites.sets import PLAN_FILE, claim_plan
from vitreous.data.dataset import Dataset, LeftOut
from vitreous.data.listing import left_out
from vitreous.errors import VitreousError
from vitreous.io import atomic_path, read_json, write_csv
from vitreous.progress import ProgressBar

Version = Literal["original", "only_fg", "only_bg_t", "mixed_same", "mixed_rand"]
VERSIONS: tuple[Version, ...] = ("original", "only_fg", "only_bg_t", "mixed_same", "mixed_rand")
KIND = "backgrounds_challenge"
STRIP = 0.125


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One photograph, and the two whose backgrounds it gets.

    Attributes:
        image: Its number in the dataset.
        same: Number of another photograph of its class.
        rand: Number of a photograph of another class.
    """

    image: int
    same: int
    rand: int


@dataclasses.dataclass(frozen=True, eq=False)
class BackgroundsChallenge:
    """The versions of some photographs, drawn when asked for.

    Attributes:
        dataset: Photographs with masks and labels.
        exchanges: Which photographs, and whose backgrounds.
        left_out: Photographs that cannot be shown, by the reason.
    """

    dataset: Dataset
    exchanges: tuple[Exchange, ...]
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.exchanges)

    def name(self, row: int) -> str:
        """Relative path of a photograph in each version: class and number."""
        label = self.dataset.label(self.exchanges[row].image)
        return f"{self.dataset.class_names[label]}/{row:06d}.png"

    def draw(self, row: int, version: Version) -> Image.Image:
        """Draw one photograph in one version, as RGB of its own size.

        Args:
            row: Place in `exchanges`.
            version: `original`; `only_fg`: the object on black; `only_bg_t`: the photograph's own
                background, tiled over the object; `mixed_same`, `mixed_rand`: the object on the
                tiled background of another photograph of its class, or of another class.

        Raises:
            ImageError: If a photograph or a mask cannot be read.
        """
        exchange = self.exchanges[row]
        item = self.dataset[exchange.image]
        if version == "original":
            return item.image
        if version == "only_bg_t":
            return self.background(exchange.image)
        if version == "only_fg":
            ground = Image.new("RGB", item.image.size)
        else:
            donor = exchange.same if version == "mixed_same" else exchange.rand
            ground = ImageOps.fit(
                self.background(donor), item.image.size, Image.Resampling.BILINEAR
            )
        return Image.composite(item.image, ground, self.mask(row))

    def mask(self, row: int) -> Image.Image:
        """The object's mask, 0 and 255, of the photograph's size."""
        return Image.fromarray(
            object_pixels(self.dataset, self.exchanges[row].image) * np.uint8(255)
        )

    def background(self, index: int) -> Image.Image:
        """The background of a photograph of the dataset, tiled over all of it."""
        pixels = np.asarray(self.dataset.images.open(index))
        return Image.fromarray(tiled(pixels, box_of(object_pixels(self.dataset, index))))


def object_pixels(dataset: Dataset, index: int) -> np.ndarray:
    """(H, W) bool: where the mask of a photograph is at least a half."""
    mask = dataset.mask(index)
    if mask is None:
        raise VitreousError(f"{dataset.name(index)} has no mask; expected one of its object")
    return mask[0].numpy() >= 0.5


def strips(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """Areas in pixels of the strips left of a box, above, right of and below it.

    A strip that is thinner than an eighth of the photograph counts as none: it shows no background.
    """
    left, top, right, bottom = box
    thin = (left / width, top / height, 1 - right / width, 1 - bottom / height)
    areas = (left * height, top * width, (width - right) * height, (height - bottom) * width)
    first, second, third, fourth = (a if t >= STRIP else 0 for a, t in zip(areas, thin))
    return first, second, third, fourth


def tiled(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The largest strip beside a box of an (H, W, 3) image, tiled over the whole (H, W, 3)."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    parts = (pixels[:, :left], pixels[:top], pixels[:, right:], pixels[bottom:])
    part = parts[int(np.argmax(strips(box, height, width)))]
    times = (-(-height // part.shape[0]), -(-width // part.shape[1]), 1)
    return np.tile(part, times)[:height, :width]


def plan_backgrounds(
    dataset: Dataset, *, area: tuple[float, float] = (0.1, 0.7), limit: int = 0, seed: int = 0
) -> BackgroundsChallenge:
    """Choose photographs, and the photographs whose backgrounds they get.

    Args:
        dataset: Photographs with masks and labels.
        area: Least and largest share of the photograph that the box of its object takes, so that
            there are both object and background.
        limit: How many photographs, drawn by the seed; 0 for all.
        seed: Everything follows from it.

    Raises:
        ImageError: If a photograph or a mask cannot be read, or they are of different size.
        VitreousError: If fewer than two classes have two photographs that can be shown.
    """
    fits, passed = _fitting(dataset, area)
    groups: dict[int, list[int]] = defaultdict(list)
    for index in fits:
        groups[dataset.label(index)].append(index)
    alone = [dataset.name(i) for own in groups.values() if len(own) == 1 for i in own]
    groups = {label: own for label, own in sorted(groups.items()) if len(own) > 1}
    passed = (*passed, *left_out({"photographs that are alone in their class": alone}))
    if len(groups) < 2:
        told = "; ".join(str(one) for one in passed)
        raise VitreousError(
            f"expected 2 or more classes, each of 2 or more photographs whose object takes "
            f"{area[0]:g} to {area[1]:g} of them and leaves a strip beside it, found {len(groups)}"
            + (f"; left out: {told}" if told else "")
        )
    random = np.random.default_rng(seed)
    chosen = [index for own in groups.values() for index in own]
    order = random.permutation(len(chosen))[: limit or None]
    exchanges = []
    starts = {label: chosen.index(own[0]) for label, own in groups.items()}
    for place in sorted(order.tolist()):
        label = dataset.label(chosen[place])
        start, count = starts[label], len(groups[label])
        # A class lies together in `chosen`: a place beyond what is left out moves on by it.
        same = start + random.integers(count - 1)
        rand = random.integers(len(chosen) - count)
        same, rand = same + (same >= place), rand + count * (rand >= start)
        exchanges.append(Exchange(*(chosen[i] for i in (place, int(same), int(rand)))))
    return BackgroundsChallenge(dataset, tuple(exchanges), passed)


def _fitting(dataset: Dataset, area: tuple[float, float]) -> tuple[list[int], tuple[LeftOut, ...]]:
    """Photographs of which there are object and background, and the others by the reason."""
    bare = "photographs without a mask or a class"
    size = f"photographs whose object takes less than {area[0]:g} or more than {area[1]:g}"
    kinds: dict[str, list[str]] = {bare: [], size: [], "photographs without a strip beside": []}
    fits = []
    for index in ProgressBar(range(len(dataset)), desc="masks", unit="picture"):
        labelled = dataset.label(index) >= 0 and dataset.masks is not None
        if dataset.masks is None or not labelled or not dataset.masks.has(index):
            kinds[bare].append(dataset.name(index))
            continue
        inside = object_pixels(dataset, index)
        if inside.any():
            dataset[index]  # an image that cannot be read, or is of another size, ends all here
        box = box_of(inside)
        share = (box[2] - box[0]) * (box[3] - box[1]) / inside.size
        if not area[0] <= share <= area[1]:
            kinds[size].append(dataset.name(index))
        elif not max(strips(box, *inside.shape)):
            kinds["photographs without a strip beside"].append(dataset.name(index))
        else:
            fits.append(index)
    return fits, left_out(kinds)


def write_backgrounds(items: BackgroundsChallenge, folder: str | os.PathLike[str]) -> Path:
    """Write `VERSION/CLASS/n.png` for each version, `masks/CLASS/n.png` and `metadata.csv`.

    What is there already is not drawn again, so an interrupted call goes on where it was.

    Returns:
        The folder.

    Raises:
        VitreousError: If the folder holds another set, or images that are not of this one.
    """
    root = Path(folder)
    names = [items.name(row) for row in range(len(items))]
    photos = [items.dataset.name(e.image) for e in items.exchanges]
    about = [photos, list(items.exchanges), list(items.dataset.class_names)]
    claim_plan(root, KIND, names, about, kinds=(*VERSIONS, "masks"))
    for row in ProgressBar(range(len(items)), desc="exchanging backgrounds", unit="picture"):
        if not (root / "masks" / names[row]).is_file():
            drawn = {version: items.draw(row, version) for version in VERSIONS}
            for kind, image in {**drawn, "masks": items.mask(row)}.items():
                with atomic_path(root / kind / names[row]) as temporary:
                    image.save(temporary)
    columns = ("path", "photograph", "mixed_same", "mixed_rand")
    of = items.dataset.name
    rows = [(n, of(e.image), of(e.same), of(e.rand)) for n, e in zip(names, items.exchanges)]
    write_csv(root / "metadata.csv", columns, rows)
    return root


def is_challenge(folder: Path) -> bool:
    """Whether `write_backgrounds` wrote a folder."""
    stored = folder / PLAN_FILE
    plan = read_json(stored) if stored.is_file() else None
    return isinstance(plan, dict) and plan.get("factor") == KIND
