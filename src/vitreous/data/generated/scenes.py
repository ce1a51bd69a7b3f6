"""A generated set with a shortcut: objects on patterned grounds, and a cue beside the object.

The class is the kind of the object. In training something in the background, the cue, goes
together with the class; in the shifted set the very same scenes carry the cue of another class.
Masks are exact, everything follows from a seed, and drawing is arithmetic on whole batches
(about a thousand images a second and core at 48 pixels).
"""

from __future__ import annotations

import dataclasses
import math
import os
import zlib
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from vitreous.data.generated.drawing import OUTLINES, PATTERNS, hue_to_rgb
from vitreous.data.images import to_uint8
from vitreous.disk import writing
from vitreous.io import write_text

Cue = Literal["tag", "pattern", "colour", "none"]
KINDS = tuple(OUTLINES)
PATTERN_KINDS = tuple(PATTERNS)


@dataclasses.dataclass(frozen=True)
class World:
    """What the images of a generated set look like.

    Attributes:
        classes: Kinds of objects, at most 16; see `KINDS`.
        size: Height and width in pixels.
        cue: What goes together with the class: a coloured `tag` in a corner, the `pattern` or
            the `colour` of the background, or `none`.
        object_size: Smallest and largest radius of the object, as a share of the half side.
        tag_size: Side of the tag as a share of the image's side; 0.25 covers whole patches
            where the patch is an eighth of the side.
    """

    classes: tuple[str, ...] = KINDS[:8]
    size: int = 48
    cue: Cue = "tag"
    object_size: tuple[float, float] = (0.48, 0.68)
    tag_size: float = 0.25

    def __post_init__(self) -> None:
        self.require_drawable()

    def require_drawable(self) -> None:
        """Refuse kinds of objects that are not known.

        Raises:
            ValueError: If there are fewer than two classes, or an unknown one.
        """
        unknown = [c for c in self.classes if c not in OUTLINES]
        if unknown or len(self.classes) < 2:
            raise ValueError(
                f"classes: expected two or more of {', '.join(KINDS)}; found {unknown}"
            )


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Descriptions of N images; each field is a tensor of N rows.

    Attributes:
        labels: Index into the world's classes.
        cues: Index of the class whose cue is shown, -1 for no cue.
        pose: Centre x and y, radius, turn (radians), mirror (1 or -1).
        colours: Hue, saturation and value of the object, and of the two colours of the ground.
        ground: Kind of pattern, as an index into `PATTERN_KINDS`.
        pattern: Turn (radians), scale, shift x and shift y of the pattern.
        corner: Corner of the tag, 0 to 3.
        light: Direction of the light (radians).
    """

    labels: Tensor
    cues: Tensor
    pose: Tensor
    colors: Tensor
    ground: Tensor
    pattern: Tensor
    corner: Tensor
    light: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor | slice) -> Scenes:
        return Scenes(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


def sample_scenes(world: World, n: int, *, seed: int, agreement: float = 1.0) -> Scenes:
    """Draw scenes at random, classes in turn so that each has the same number (± 1).

    Args:
        world: What the images look like.
        n: How many.
        seed: Everything follows from it.
        agreement: Share of the images whose cue is that of their class; the others carry the
            cue of another class, all equally often.
    """
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=random)

    count = len(world.classes)
    labels = torch.arange(n) % count
    others = (labels + torch.randint(1, count, (n,), generator=random)) % count
    cues = torch.where(uniform(0, 1) < agreement, labels, others)
    radius = uniform(*world.object_size)
    room = (0.9 - radius).clamp(min=0.0, max=0.3)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    pose = [uniform(-1, 1) * room, uniform(-1, 1) * room, radius, uniform(-0.5, 0.5), mirror]
    ground_hue = uniform(0, 1)
    hues = [(ground_hue + uniform(0.25, 0.75)) % 1, ground_hue, ground_hue + uniform(-0.08, 0.08)]
    saturations = [uniform(0.45, 0.9), uniform(0.15, 0.5), uniform(0.2, 0.55)]
    dark = uniform(0.35, 0.7)
    values = [uniform(0.75, 1.0), dark, dark + uniform(0.1, 0.28)]
    return Scenes(
        labels=labels,
        cues=cues if world.cue != "none" else torch.full((n,), -1),
        pose=torch.stack(pose, 1),
        colors=torch.stack([torch.stack(c, 1) for c in zip(hues, saturations, values)], 1),
        ground=torch.randint(len(PATTERN_KINDS), (n,), generator=random),
        pattern=torch.stack(
            [uniform(0, math.pi), uniform(0.7, 1.3), uniform(-1, 1), uniform(-1, 1)], 1
        ),
        corner=torch.randint(4, (n,), generator=random),
        light=uniform(-math.pi, math.pi),
    )


def shift_cues(world: World, scenes: Scenes, *, seed: int) -> Scenes:
    """Give every scene the cue of another class, all others equally often; nothing else changes."""
    random = torch.Generator().manual_seed(seed)
    step = torch.randint(1, len(world.classes), (len(scenes),), generator=random)
    return dataclasses.replace(scenes, cues=(scenes.labels + step) % len(world.classes))


def without_cues(scenes: Scenes) -> Scenes:
    """Remove the cue: no tag, and a pattern and a colour at random."""
    return dataclasses.replace(scenes, cues=torch.full_like(scenes.cues, -1))


def draw_scenes(world: World, scenes: Scenes, *, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Draw scenes.

    Returns:
        Images (N, 3, S, S) in [0, 1] and exact masks (N, 1, S, S) of 0 and 1.
    """
    parts = [_draw(world, scenes[i : i + chunk]) for i in range(0, max(len(scenes), 1), chunk)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _draw(world: World, scenes: Scenes) -> tuple[Tensor, Tensor]:
    axis = (torch.arange(world.size) + 0.5) / world.size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    image = _draw_ground(world, scenes, x, y)
    if world.cue == "tag":
        image = _draw_tags(world, scenes, image, x, y)
    distance = _object_distance(world, scenes, x, y)
    shadow = _object_distance(world, scenes, x - 0.05, y - 0.09)
    cover = torch.sigmoid(-shadow * 14) * 0.45
    image = image * (1 - cover[:, None])
    body, coverage = _shade(world, scenes, distance)
    image = image + (body - image) * coverage
    return image.clamp(0, 1), (coverage >= 0.5).float()


def _draw_ground(world: World, scenes: Scenes, x: Tensor, y: Tensor) -> Tensor:
    turn, scale, dx, dy = (v[:, None, None] for v in scenes.pattern.unbind(1))
    px = (torch.cos(turn) * x + torch.sin(turn) * y) * scale + dx
    py = (torch.cos(turn) * y - torch.sin(turn) * x) * scale + dy
    kinds = scenes.ground
    if world.cue == "pattern":
        kinds = torch.where(scenes.cues >= 0, scenes.cues % len(PATTERN_KINDS), kinds)
    wave = torch.empty_like(px)
    for kind in kinds.unique().tolist():
        rows = kinds == kind
        wave[rows] = PATTERNS[PATTERN_KINDS[kind]](px[rows], py[rows])
    share = torch.sigmoid(wave * 3)[:, None]
    first, second = (_color(world, scenes, i)[:, :, None, None] for i in (1, 2))
    fall = 1 - 0.16 * (x * x + y * y)
    return (first * (1 - share) + second * share) * fall


def _color(world: World, scenes: Scenes, which: int) -> Tensor:
    hue, saturation, value = scenes.colors[:, which].unbind(1)
    if world.cue == "colour":
        own = (scenes.cues + hue.sub(scenes.colors[:, 1, 0]) * 0.5) / len(world.classes)
        hue = torch.where(scenes.cues >= 0, own, hue)
        saturation = saturation + 0.25
    return hue_to_rgb(hue % 1, saturation, value)


def _draw_tags(world: World, scenes: Scenes, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    half = world.tag_size
    right = torch.where(scenes.corner % 2 == 1, 1.0, -1.0)[:, None, None]
    low = torch.where(scenes.corner >= 2, 1.0, -1.0)[:, None, None]
    tx, ty = (x - right * (1 - half)) / half, (y - low * (1 - half)) / half
    soft = world.size * half / 2
    square = ((tx.abs().clamp(min=0.4) - 0.4) ** 2 + (ty.abs().clamp(min=0.4) - 0.4) ** 2).sqrt()
    shown = (scenes.cues >= 0)[:, None, None]
    plate = ((0.52 - square) * soft + 0.5).clamp(0, 1) * shown
    cues = scenes.cues.clamp(min=0)
    full = torch.full(cues.shape, 1.0)
    color = hue_to_rgb(cues / len(world.classes), full * 0.85, full * 0.95)[:, :, None, None]
    stripe = (torch.sin(6.0 * (tx + ty)) * 3).sigmoid()[:, None] * 0.25
    color = color * (0.8 + stripe)
    rim = ((square - 0.38) * soft + 0.5).clamp(0, 1)[:, None]
    return image + (color * (1 - rim) + rim - image) * plate[:, None]


def _object_distance(world: World, scenes: Scenes, x: Tensor, y: Tensor) -> Tensor:
    """Distance to the object's outline in half sides, negative inside: (N, S, S)."""
    cx, cy, radius, turn, mirror = (v[:, None, None] for v in scenes.pose.unbind(1))
    ox = (torch.cos(turn) * (x - cx) + torch.sin(turn) * (y - cy)) / radius * mirror
    oy = (torch.cos(turn) * (y - cy) - torch.sin(turn) * (x - cx)) / radius
    distance = torch.empty_like(ox)
    for label in scenes.labels.unique().tolist():
        rows = scenes.labels == label
        distance[rows] = OUTLINES[world.classes[label]](ox[rows], oy[rows])
    return distance * radius


def _shade(world: World, scenes: Scenes, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Colour (N, 3, S, S) and coverage (N, 1, S, S) of the object: a rounded, lit body."""
    pixel = 2 / world.size
    down, across = torch.gradient(distance, spacing=pixel, dim=(1, 2))
    coverage = (0.5 - distance / pixel).clamp(0, 1)[:, None]
    light = scenes.light[:, None, None]
    slope = torch.exp(distance.clamp(max=0) * 9)
    lit = (across * torch.cos(light) + down * torch.sin(light)) * slope
    outline = ((distance + 1.3 * pixel) / pixel + 0.5).clamp(0, 1)[:, None]
    color = _color_of_object(scenes)[:, :, None, None]
    body = color * (1 + 0.22 * lit[:, None]) + 0.12 * (lit[:, None].clamp(min=0))
    return body * (1 - 0.55 * outline), coverage


def _color_of_object(scenes: Scenes) -> Tensor:
    return hue_to_rgb(*scenes.colors[:, 0].unbind(1))


def write_folder(
    folder: str | os.PathLike[str], world: World, scenes: Scenes, *, masks: bool = False
) -> Path:
    """Write scenes as `folder/images/CLASS/00000.png`, their masks as `folder/masks/CLASS/…`.

    A folder that is complete already is left as it is.

    Raises:
        VitreousError: If the disk is full or the folder cannot be written.
    """
    root = Path(folder)
    done = root / "generated.txt"
    description = f"{world}\n{len(scenes)} pictures, checksum {_checksum(scenes)}\n"
    if done.is_file() and done.read_text(encoding="utf-8") == description:
        return root
    images, foregrounds = draw_scenes(world, scenes)
    kinds = {"images": images, **({"masks": foregrounds} if masks else {})}
    with writing(root):
        for kind, values in kinds.items():
            for place, (value, label) in enumerate(zip(values, scenes.labels.tolist())):
                file = root / kind / world.classes[label] / f"{place:05d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(to_uint8(value)).save(file, compress_level=1)
    write_text(done, description)
    return root


def _checksum(scenes: Scenes) -> int:
    values = torch.cat([getattr(scenes, f.name).flatten() for f in dataclasses.fields(scenes)])
    return zlib.crc32(values.numpy().tobytes())
