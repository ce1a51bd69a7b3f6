"""Show what a model looks at: relevance maps and the five most probable classes.

Each image gets a PNG with its maps; maps.npz holds all of them as arrays and explanations.json the
classes with their probabilities. Killed and run again, it goes on where it was; several processes
share the work (`torchrun`).

Example:
    vitreous explain cat.jpg --model vit_base_patch16_224.augreg_in21k_ft_in1k
    vitreous explain photos/ --model runs/guided --compare runs/plain --method all
    vitreous explain photos/ --model runs/guided --save overlay tiff --grid 8 --gif
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.commands.options import (
    BatchOption,
    BatchSize,
    DeviceOption,
    PrecisionOption,
    QuietOption,
    ResumeOptions,
    Workers,
    WorkersOption,
    quick_imports,
)
from vitreous.errors import VitreousError
from vitreous.folders import check_folder
from vitreous.ranges import PIXELS, SHARE, above, at_least

Kind = Literal["panel", "overlay", "png", "tiff", "npz"]


@dataclasses.dataclass(kw_only=True)
class Command(
    DeviceOption, PrecisionOption, BatchOption, WorkersOption, ResumeOptions, QuietOption
):
    """Explain images."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, or folders of them."""

    model: str
    """timm name with its tag, a run or model folder, or a checkpoint that names its own."""

    checkpoint: Path | None = None
    """Weights to load into that architecture."""

    compare: str | None = None
    """A second model, shown beside the first."""

    prompts: tuple[str, ...] = ()
    """Sentences that become the classes of a CLIP or SigLIP model (hf:owner/name, a folder)."""

    method: tuple[str, ...] = ("gradient_attention",)
    """Relevance methods, or `all` (but occlusion, which takes 196 passes)."""

    target: str | None = None
    """Class to explain: number, name or prompt, `A - B` for the difference of two, or `top:3` for
    each of the three most probable; the predicted one where not given."""

    start_layer: Annotated[int, at_least(0)] = 0
    """First attention layer that counts."""

    image_size: Annotated[int, PIXELS] | None = None
    """Input size in pixels, where it is not the model's own."""

    batch_size: BatchSize = 8
    workers: Workers = 0
    """Processes that read images beside each model."""

    out: Path = Path("explained")
    """Folder for what is made."""

    save: tuple[Kind, ...] = ("panel", "npz")
    """panel: a PNG of all maps of an image; overlay: a PNG of each map over its image; png: each
    map in 8-bit gray; tiff: each map as float32; npz: all maps in one file."""

    color_map: str = "inferno"
    """Colours of overlays: a colour map of matplotlib's."""

    strength: Annotated[float, SHARE] = 0.7
    """Share of the colour where relevance is 1."""

    grid: Annotated[int, at_least(0)] = 0
    """One figure, grid.png, of methods × this many images (the first)."""

    gif: bool = False
    """Write animation.gif: images and maps in order."""

    gif_seconds: Annotated[float, above(0, at_most=600)] = 0.5
    """How long the animation shows an image."""

    skip_unreadable: bool = False
    """Go on past images that cannot be read; they are named and counted."""

    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make; images stay."""

    def run(self) -> None:
        """Explain, print the classes, and say where the maps are."""
        if not self.images:
            raise VitreousError("give images, or folders of them")
        check_folder(self.out, "explanations", overwrite=self.overwrite)
        with quick_imports():
            from vitreous.commands.explaining import explain_images

        explain_images(self)
