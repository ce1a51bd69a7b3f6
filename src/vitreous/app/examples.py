"""Example images that are drawn, not shipped."""

from __future__ import annotations

import functools

import numpy as np

from vitreous.data.generated.scenes import KINDS, World, draw_scenes, sample_scenes
from vitreous.data.images import to_uint8

COUNT = 6
SIDE = 256


@functools.cache
def example_images() -> list[tuple[np.ndarray, str]]:
    """Images (256, 256, 3) of bytes, with what they show."""
    world = World(classes=KINDS[:8], size=SIDE)
    scenes = sample_scenes(world, COUNT, seed=3)
    images, _ = draw_scenes(world, scenes)
    names = [world.classes[int(label)] for label in scenes.labels]
    return [(to_uint8(image), name) for image, name in zip(images, names)]
