"""The generated set as a data source, so that recipes can train on it without any file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vitreous.data.generated.scenes import KINDS, Cue, Scenes, World, draw, sample_scenes
from vitreous.data.mask_files import read_mask
from vitreous.data.readers.base import READERS, Split

VALIDATION_SEED = 500_009


@dataclasses.dataclass(frozen=True)
class DrawnItems:
    """Drawn pictures, held in memory.

    Attributes:
        images: (N, H, W, 3) bytes.
        masks: (N, 1, H, W) of 0 and 1; a row of zeros is a picture without a mask.
        labels: (N,).
        classes: Names of the classes.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    @classmethod
    def of(cls, world: World, scenes: Scenes, masked: bool = True) -> DrawnItems:
        """Draw scenes, with their exact masks or without any."""
        dataset, masks = draw(world, scenes)
        images = (dataset * 255).round().byte().permute(0, 2, 3, 1).contiguous()
        return cls(images, masks if masked else masks * 0, scenes.labels, world.classes)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Class and number, as `write_folder` names the file."""
        return f"{self.classes[int(self.labels[index])]}/{index:05d}.png"

    def read(self, index: int) -> tuple[Image.Image, Tensor | None, int]:
        """Return picture, mask and label."""
        image = Image.fromarray(self.images[index].numpy())
        mask = self.masks[index]
        return image, mask if bool(mask.any()) else None, int(self.labels[index])


@READERS.register("generated")
@dataclasses.dataclass(frozen=True)
class Generated:
    """Objects on backgrounds with a cue that goes together with the class; see `World`.

    Attributes:
        classes: Kinds of objects.
        size: Height and width in pixels.
        cue: `tag`, `pattern`, `colour` or `none`.
        agreement: Share of the pictures whose cue is that of their class.
        train: How many pictures train.
        validation: How many validate.
        masks: `exact`, `none`, or a folder with `CLASS/00000.png` for the training pictures; a
            picture whose file is missing there goes without a mask.
        masked: How many of the training pictures keep their mask; all where not given.
        scenes_seed: Everything in the pictures follows from it; the run's seed plays no part, so
            that runs can be compared.
    """

    classes: tuple[str, ...] = KINDS[:8]
    size: int = 48
    cue: Cue = "tag"
    agreement: float = 1.0
    train: int = 2048
    validation: int = 256
    masks: str = "none"
    masked: int | None = None
    scenes_seed: int = 0

    def __post_init__(self) -> None:
        self.world.require_drawable()

    @property
    def world(self) -> World:
        """What the pictures look like."""
        return World(self.classes, self.size, self.cue)

    def load(self, seed: int) -> Split:
        """Draw the pictures."""
        world = self.world
        train = self.scenes(self.train, self.scenes_seed)
        held = self.scenes(self.validation, self.scenes_seed + VALIDATION_SEED)
        items = DrawnItems.of(world, train, masked=self.masks != "none")
        if self.masks not in ("exact", "none"):
            items = dataclasses.replace(items, masks=read_masks(items, Path(self.masks)))
        if self.masked is not None:
            items.masks[self.masked :] = 0
        note = {"masks": int(items.masks.flatten(1).any(1).sum())}
        return Split(items, DrawnItems.of(world, held), list(self.classes), note)

    def scenes(self, count: int, seed: int) -> Scenes:
        """Sample scenes with the cue as it is in training."""
        return sample_scenes(self.world, count, seed=seed, agreement=self.agreement)


def read_masks(items: DrawnItems, folder: Path) -> Tensor:
    """Read the masks of drawn pictures from files: (N, 1, H, W), zeros where there is none."""
    masks = torch.zeros_like(items.masks)
    for index in range(len(items)):
        file = folder.expanduser() / items.name(index)
        if file.is_file():
            masks[index] = read_mask(file, "binary")
    return masks
