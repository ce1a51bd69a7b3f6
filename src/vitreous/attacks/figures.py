"""Seeing an attack: clean image, perturbation, result and confidence, as a strip and a GIF."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vitreous.attacks.base import Attack
from vitreous.attacks.norms import Norm, radius_text
from vitreous.data.images import save_gif, to_uint8
from vitreous.errors import VitreousError
from vitreous.io import atomic_path
from vitreous.models import Classifier
from vitreous.models.modes import evaluation_mode

CELL = 224
GAP = 8
LINE = 20
INK, PAPER, FAINT = (24, 24, 27), (255, 255, 255), (113, 113, 122)


@dataclasses.dataclass(frozen=True)
class Frame:
    """An image attacked at one radius.

    Attributes:
        epsilon: The radius; 0 for the clean image.
        perturbed: (3, H, W) in [0, 1].
        perturbation: (3, H, W), the difference.
        answer: Name of the class that the model says.
        confidence: Its probability.
        target: Probability of the target, or of the label where there is no target.
        norm: Of the radius.
    """

    epsilon: float
    perturbed: Tensor
    perturbation: Tensor
    answer: str
    confidence: float
    target: float
    norm: Norm = "linf"

    @property
    def radius(self) -> str:
        """The radius, written."""
        return "clean" if self.epsilon == 0 else f"ε {radius_text(self.epsilon, self.norm)}"


def attack_frames(
    classifier: Classifier,
    image: Tensor,
    label: int,
    attack: Attack,
    epsilons: Sequence[float],
    target: int | None = None,
    seed: int = 0,
) -> list[Frame]:
    """Attack one image at growing radii.

    Each attack goes on to its last step, so that the image shows what convinces the model and
    not what just tips it.

    Args:
        classifier: The model.
        image: (3, H, W) in [0, 1].
        label: Its class.
        attack: Settings; the radius is replaced.
        epsilons: Radii; 0 is added for the clean image.
        target: Class to drive the model to; away from the label where not given.
        seed: Of random starts.
    """
    clean = image[None].to(classifier.device)
    labels = torch.tensor([label], device=clean.device)
    targets = None if target is None else torch.full_like(labels, target)
    shown = label if target is None else target
    frames = []
    for epsilon in sorted({0.0, *epsilons}):
        perturbed = clean
        if epsilon > 0:
            sized = attack.exhaustive().at(epsilon)
            generator = torch.Generator().manual_seed(seed)
            perturbed = sized(classifier, clean, labels, targets=targets, generator=generator)
        with torch.no_grad(), evaluation_mode(classifier):
            probabilities = classifier(perturbed).float().softmax(1)[0]
        if not bool(probabilities.isfinite().all()):
            raise VitreousError(f"{classifier.name} gives answers that are not finite")
        best = int(probabilities.argmax())
        frames.append(
            Frame(
                epsilon,
                perturbed[0].cpu(),
                (perturbed - clean)[0].cpu(),
                classifier.class_name(best).split(",")[0],
                float(probabilities[best]),
                float(probabilities[shown]),
                attack.norm,
            )
        )
    return frames


def save_panel(frames: Sequence[Frame], path: str | os.PathLike[str], caption: str = "") -> Path:
    """Write a PNG: perturbations above, results below, a column for each radius."""
    columns = [_column(frame) for frame in frames]
    width = sum(c.width for c in columns) + GAP * (len(columns) + 1)
    top = LINE + GAP if caption else GAP
    sheet = Image.new("RGB", (width, columns[0].height + top + GAP), PAPER)
    if caption:
        ImageDraw.Draw(sheet).text((GAP, GAP // 2), caption, INK, _font(14))
    left = GAP
    for column in columns:
        sheet.paste(column, (left, top))
        left += column.width + GAP
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return Path(path)


def save_animation(
    frames: Sequence[Frame], path: str | os.PathLike[str], milliseconds: int = 700
) -> Path:
    """Write a GIF, a frame for each radius: clean, perturbation, result and confidence."""
    clean = frames[0].perturbed
    pages = [_page(clean, frame) for frame in frames]
    times = [2 * milliseconds, *[milliseconds] * (len(pages) - 2), 3 * milliseconds]
    return save_gif(pages, path, times[: len(pages)])


def _column(frame: Frame) -> Image.Image:
    sheet = Image.new("RGB", (CELL, 2 * CELL + GAP + 3 * LINE), PAPER)
    sheet.paste(_cell(_visible(frame)), (0, 0))
    sheet.paste(_cell(frame.perturbed), (0, CELL + GAP))
    _write(sheet, frame, 0, 2 * CELL + GAP + 4)
    return sheet


def _page(clean: Tensor, frame: Frame) -> Image.Image:
    sheet = Image.new("RGB", (3 * CELL + 4 * GAP, CELL + 4 * LINE + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    names = ("clean", "perturbation, enlarged", "result")
    for place, (name, image) in enumerate(zip(names, (clean, _visible(frame), frame.perturbed))):
        left = GAP + place * (CELL + GAP)
        draw.text((left, GAP // 2), name, FAINT, _font(13))
        sheet.paste(_cell(image), (left, LINE + GAP))
    left = 3 * GAP + 2 * CELL
    _write(sheet, frame, left, LINE + CELL + GAP + 4)
    bar = LINE + CELL + GAP + 3 * LINE
    draw.rectangle((GAP, bar - 8, GAP + round((2 * CELL) * frame.target), bar), fill=INK)
    share = f"confidence in the class aimed at: {frame.target:.0%}"
    draw.text((GAP, LINE + CELL + GAP + 4), share, INK, _font(13))
    return sheet


def _write(sheet: Image.Image, frame: Frame, left: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((left, top), frame.radius, FAINT, _font(13))
    draw.text((left, top + LINE), f"{frame.answer[:26]} {frame.confidence:.0%}", INK, _font(14))


def _visible(frame: Frame) -> Tensor:
    """The perturbation around gray, stretched to the whole range."""
    largest = float(frame.perturbation.abs().max())
    return (
        0.5 + 0.5 * frame.perturbation / largest
        if largest
        else torch.full_like(frame.perturbation, 0.5)
    )


def _cell(image: Tensor) -> Image.Image:
    array = np.ascontiguousarray(to_uint8(image))
    return Image.fromarray(array).resize((CELL, CELL), Image.Resampling.NEAREST)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font has no Greek letters; matplotlib brings one that has.
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size - 1)
