"""ImageNet-S-919 with RobustViT's selection of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePath
from typing import Annotated, TypeVar

import numpy as np

from vitreous.data.dataset import UNKNOWN, Dataset, LeftOut
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.base import READERS, OnError, Split, readable
from vitreous.data.readers.paths import read_dataset
from vitreous.errors import VitreousError
from vitreous.models.class_words import imagenet_index
from vitreous.ranges import SEED, at_least

T = TypeVar("T", str, PurePath)
MERGED = [
    "n04356056",
    "n04355933",
    "n04493381",
    "n02808440",
    "n03642806",
    "n03832673",
    "n04008634",
    "n03773504",
    "n03887697",
    "n15075141",
]


@READERS.register("imagenet_s")
@dataclasses.dataclass(frozen=True)
class ImageNetS:
    """3 images of each of 500 classes train, one of each other class validates (the paper's).

    Classes are shuffled by the seed and so are the images of each; both start from sorted
    names, so that the same seed gives the same selection on every machine. The ten classes that
    ImageNet-S merged are left out. Labels are those of ImageNet-1k.

    Attributes:
        images: Folder of wnid folders with images.
        masks: Folder of wnid folders with ImageNet-S's masks (class = R + 256·G).
        classes: How many classes train.
        per_class: How many images of each train.
        mask_format: `imagenet_s`, or `binary` for masks of another source.
        split_seed: Of the selection; 0 is a seed like any other.
        on_error: As in `folders`.
    """

    images: str
    masks: str
    classes: Annotated[int, at_least(1)] = 500
    per_class: Annotated[int, at_least(1)] = 3
    mask_format: MaskFormat = "imagenet_s"
    split_seed: Annotated[int, SEED] = 0
    on_error: OnError = "error"

    def load(self, seed: int) -> Split:
        """Choose images; the run's own seed plays no part, so that runs can be compared.

        Raises:
            VitreousError: If folders or masks are missing or there are too few classes.
        """
        root = Path(self.images).expanduser()
        dataset = read_dataset(root, masks=self.masks, mask_format=self.mask_format, labelled=True)
        whole, bad = readable(dataset, self.on_error)
        by_wnid: dict[str, list[str]] = {w: [] for w in whole.class_names if w not in MERGED}
        places = {whole.name(index): index for index in range(len(whole))}
        for name, index in places.items():
            wnid = whole.class_names[whole.label(index)]
            if wnid in by_wnid and whole.masks is not None and whole.masks.has(index):
                by_wnid[wnid].append(name)
        chosen, held = select(by_wnid, self.classes, self.per_class, self.split_seed)
        merged = LeftOut("classes that ImageNet-S merged", tuple(MERGED))
        whole = dataclasses.replace(
            _labelled(whole, root), left_out=(*whole.left_out, merged), class_names=()
        )
        note: dict[str, object] = {
            "train": [name for _, name in chosen],
            "validation": [name for _, name in held],
            "left_out": MERGED,
            **({"skipped": bad} if bad else {}),
        }
        train, validation = (
            whole.select([places[name] for _, name in pairs]) for pairs in (chosen, held)
        )
        return Split(train, validation, note)


def _labelled(dataset: Dataset, root: Path) -> Dataset:
    """Take the classes of ImageNet-1k for labels; -1 for folders that are none of them."""
    index = imagenet_index()
    unknown = [w for w in dataset.class_names if w not in index and w not in MERGED]
    if unknown:
        raise VitreousError(f"{root}: '{unknown[0]}' is not a wnid of ImageNet-1k")
    table = np.array([index.get(w, UNKNOWN) for w in dataset.class_names], dtype=np.int64)
    return dataclasses.replace(dataset, labels=table[dataset.labels])


def select(
    by_class: dict[str, list[T]], classes: int, per_class: int, seed: int
) -> tuple[list[tuple[str, T]], list[tuple[str, T]]]:
    """Choose classes and images, each from sorted names by a seeded shuffle.

    Returns:
        (class, image) pairs to train on, and one of each other class to validate on.
    """
    generator = np.random.default_rng(seed)
    names = sorted(name for name, images in by_class.items() if images)
    if len(names) < classes:
        raise VitreousError(
            f"expected at least {classes} classes with masks, found {len(names)}; "
            "lower data.classes"
        )
    order = [names[i] for i in generator.permutation(len(names))]
    train, validation = [], []
    for place, name in enumerate(order):
        images = sorted(by_class[name])
        shuffled = [images[i] for i in generator.permutation(len(images))]
        if place >= classes:
            validation.append((name, shuffled[0]))
        elif len(shuffled) < per_class:
            raise VitreousError(
                f"class {name} has {len(shuffled)} pictures with masks, expected {per_class}"
            )
        else:
            train += [(name, image) for image in shuffled[:per_class]]
    return train, validation
