"""The generated set as a data source, so that recipes can train on it without any file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from vitreous.data.dataset import Dataset
from vitreous.data.generated.scenes import KINDS, Cue, Scenes, World, draw_scenes, sample_scenes
from vitreous.data.mask_files import read_mask
from vitreous.data.readers.base import READERS, Split
from vitreous.data.stores import ArrayImages, ArrayMasks
from vitreous.ranges import PIXELS, SEED, SHARE, at_least

VALIDATION_SEED = 500_009


def scenes_dataset(world: World, scenes: Scenes, masks: Tensor | None = None) -> Dataset:
    """Draw scenes into memory, with their exact masks.

    Args:
        world: What the images look like.
        scenes: What they show; they are called `CLASS/00000.png`, as `write_folder` names files.
        masks: (N, 1, H, W) in place of the exact masks; a row of zeros is an image without one.
    """
    images, exact = draw_scenes(world, scenes)
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).contiguous()
    store = ArrayMasks(exact if masks is None else masks)
    images_store = ArrayImages(pixels, scene_names(world, scenes))
    return Dataset(images_store, scenes.labels.numpy(), world.classes, store)


def scene_names(world: World, scenes: Scenes) -> list[str]:
    """Names of scenes: class and number."""
    return [f"{world.classes[label]}/{i:05d}.png" for i, label in enumerate(scenes.labels.tolist())]


@READERS.register("generated")
@dataclasses.dataclass(frozen=True)
class Generated:
    """Objects on backgrounds with a cue that goes together with the class; see `World`.

    Attributes:
        classes: Kinds of objects.
        size: Height and width in pixels.
        cue: `tag`, `pattern`, `colour` or `none`.
        agreement: Share of the images whose cue is that of their class.
        train: How many images train.
        validation: How many validate.
        masks: `exact`, `none`, or a folder with `CLASS/00000.png` for the training images; an
            image whose file is missing there goes without a mask.
        masked: How many of the training images keep their mask; all where not given.
        scenes_seed: Everything in the images follows from it; the run's seed plays no part, so
            that runs can be compared.
    """

    classes: tuple[str, ...] = KINDS[:8]
    size: Annotated[int, PIXELS] = 48
    cue: Cue = "tag"
    agreement: Annotated[float, SHARE] = 1.0
    train: Annotated[int, at_least(1)] = 2048
    validation: Annotated[int, at_least(0)] = 256
    masks: str = "none"
    masked: Annotated[int, at_least(0)] | None = None
    scenes_seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        self.world.require_drawable()

    @property
    def world(self) -> World:
        """What the images look like."""
        return World(self.classes, self.size, self.cue)

    def load(self, seed: int) -> Split:
        """Draw the images."""
        scenes = self.scenes(self.train, self.scenes_seed)
        held = self.scenes(self.validation, self.scenes_seed + VALIDATION_SEED)
        masks = self._masks(scenes)
        train = scenes_dataset(self.world, scenes, masks)
        note = {"masks": sum(train.masks.has(i) for i in range(len(train))) if train.masks else 0}
        return Split(train, scenes_dataset(self.world, held), note)

    def scenes(self, count: int, seed: int) -> Scenes:
        """Sample scenes with the cue as it is in training."""
        return sample_scenes(self.world, count, seed=seed, agreement=self.agreement)

    def _masks(self, scenes: Scenes) -> Tensor:
        """Masks of the training images (N, 1, H, W), zeros where there is none."""
        if self.masks == "exact":
            _, masks = draw_scenes(self.world, scenes)
        else:
            masks = torch.zeros(len(scenes), 1, self.size, self.size)
        if self.masks not in ("exact", "none"):
            folder = Path(self.masks).expanduser()
            for index, name in enumerate(scene_names(self.world, scenes)):
                if (folder / name).is_file():
                    masks[index] = read_mask(folder / name, "binary")
        if self.masked is not None:
            masks[self.masked :] = 0
        return masks
