"""ImageNet-S-919 with RobustViT's selection of pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vitreous.data.items import FileDataset, Sample
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.base import READERS, Split
from vitreous.data.readers.files import OnError, match_masks, read_folders
from vitreous.errors import VitreousError

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
    """3 pictures of each of 500 classes train, one of each other class validates (the paper's).

    Classes are shuffled by the seed and so are the pictures of each; both start from sorted
    names, so that the same seed gives the same selection on every machine. The ten classes that
    ImageNet-S merged are left out. Labels are those of ImageNet-1k.

    Attributes:
        images: Folder of wnid folders with pictures.
        masks: Folder of wnid folders with ImageNet-S's masks (class = R + 256·G).
        classes: How many classes train.
        per_class: How many pictures of each train.
        mask_format: `imagenet_s`, or `binary` for masks of another source.
        split_seed: Of the selection; 0 is a seed like any other.
        on_error: As in `folders`.
    """

    images: str
    masks: str
    classes: int = 500
    per_class: int = 3
    mask_format: MaskFormat = "imagenet_s"
    split_seed: int = 0
    on_error: OnError = "error"

    def load(self, seed: int) -> Split:
        """Choose pictures; the run's own seed plays no part, so that runs can be compared.

        Raises:
            VitreousError: If folders or masks are missing or there are too few classes.
        """
        root = Path(self.images).expanduser()
        samples, wnids = read_folders(root)
        masked = match_masks(samples, root, Path(self.masks).expanduser(), require=False)
        by_wnid: dict[str, list[Path]] = {w: [] for w in wnids if w not in MERGED}
        masks = {}
        for sample in masked:
            wnid = wnids[sample.label]
            if wnid in by_wnid and sample.mask is not None:
                by_wnid[wnid].append(sample.path)
                masks[sample.path] = sample.mask
        chosen, held = select(by_wnid, self.classes, self.per_class, self.split_seed)
        index = imagenet_index()
        unknown = [w for w, _ in chosen + held if w not in index]
        if unknown:
            raise VitreousError(f"{root}: '{unknown[0]}' is not a wnid of ImageNet-1k")

        def items(pairs: list[tuple[str, Path]]) -> FileDataset:
            return FileDataset([Sample(p, index[w], masks[p]) for w, p in pairs], self.mask_format)

        note = {
            "train": [p.relative_to(root).as_posix() for _, p in chosen],
            "validation": [p.relative_to(root).as_posix() for _, p in held],
            "left_out": MERGED,
        }
        return Split(items(chosen), items(held), [], note)


def select(
    by_class: dict[str, list[Path]], classes: int, per_class: int, seed: int
) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """Choose classes and pictures, each from sorted names by a seeded shuffle.

    Returns:
        (class, picture) pairs to train on, and one of each other class to validate on.
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


def imagenet_index() -> dict[str, int]:
    """ImageNet-1k's wnids and their class indices."""
    from timm.data import ImageNetInfo

    return {wnid: i for i, wnid in enumerate(ImageNetInfo().label_names())}
