"""Measure how a model withstands attacks, or show what an attack does to an image.

Robust accuracy at each ε goes to results.json with a curve; a killed run goes on where it was
when the same command runs again, and several processes share the work (`torchrun`). With --image
a panel (PNG) and an animation (GIF) are drawn. Images pushed towards a class (--image with
--target, or --panels) are on the card of the run.

Example:
    vitreous attack runs/x --data val/ --epsilon 1/255 2/255 4/255 --steps 50 --restarts 10
    vitreous attack runs/x --data val/ --attack apgd_ce apgd_t square
    vitreous attack runs/x --data val/ --attack sequence --members apgd_ce square --norm l2
    vitreous attack runs/x --data val/ --epsilon 8/255 24/255 --panels 4
    vitreous attack runs/x --image cat.jpg --target 3 --epsilon 2/255 8/255 16/255 32/255
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.commands.options import (
    RADIUS,
    STEP_SIZE,
    BatchOption,
    DeviceOption,
    LimitOption,
    PrecisionOption,
    QuietOption,
    ResumeOptions,
    SeedOption,
    WorkersOption,
    quick_imports,
)
from vitreous.errors import VitreousError
from vitreous.ranges import STEPS, at_least

Name = Literal["fgsm", "pgd", "apgd_ce", "apgd_t", "square", "sequence", "autoattack"]


@dataclasses.dataclass(kw_only=True)
class Command(
    DeviceOption,
    PrecisionOption,
    BatchOption,
    WorkersOption,
    LimitOption,
    ResumeOptions,
    SeedOption,
    QuietOption,
):
    """Attack a model."""

    model: Annotated[str, tyro.conf.Positional]
    """timm name with its tag, a run or model folder, or a checkpoint that names its own."""

    checkpoint: Path | None = None
    """Weights to load into that architecture."""

    data: Path | None = None
    """Images with labels: a folder of class folders, a CSV file (path,label) or tar shards."""

    class_map: Path | None = None
    """JSON for your images: label → class index, WordNet id, name, or a list of them."""

    image: Path | None = None
    """One image to show an attack on, instead of a set."""

    label: Annotated[int, at_least(0)] | None = None
    """Class of the image; the predicted one where not given."""

    attack: tuple[Name, ...] = ("pgd",)
    """Attacks, each measured on its own."""

    epsilon: Annotated[tuple[str, ...], RADIUS] = ("1/255", "2/255", "4/255")
    """Radii of the ball in units of images in [0, 1]."""

    norm: Literal["linf", "l2"] = "linf"
    """Of the ball."""

    steps: Annotated[int, STEPS] | None = None
    """Gradient steps of each start (pgd: 50, apgd: 100)."""

    step_size: Annotated[str, STEP_SIZE] | None = None
    """Length of a step of pgd; 2.5 ε / steps where not given."""

    restarts: Annotated[int, STEPS] | None = None
    """Random starts (1; those of the version for autoattack)."""

    queries: Annotated[int, STEPS] | None = None
    """Squares that square tries on each image (5000)."""

    members: tuple[str, ...] = ()
    """Attacks of sequence (apgd_ce apgd_t square), or of a custom autoattack (apgd-ce fab …)."""

    loss: Literal["cross_entropy", "margin", "dlr"] | None = None
    """What pgd and apgd_ce make large."""

    target: Annotated[int, at_least(0)] | None = None
    """Class to drive the model to; away from the label where not given."""

    keep: Annotated[int, at_least(0)] = 0
    """Save this many of the images that fool the model, clean and perturbed."""

    panels: Annotated[int, at_least(0)] = 0
    """Push this many of the images towards --target, or each to the class of another, and put
    them on the card of the run."""

    out: Path | None = None
    """Folder of results.json; a run's own folder, or attacks/MODEL, by default."""

    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make."""

    def run(self) -> None:
        """Attack, write results and say where they are."""
        if (self.data is None) == (self.image is None):
            raise VitreousError("give either --data (a set to measure) or --image (one to show)")
        with quick_imports():
            from vitreous.commands.attacking import attack

        attack(self)
