"""Options that several subcommands of `vitreous brain` share: the model and its activations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.commands.options import (
    BatchOption,
    DeviceOption,
    ResumeOptions,
    SeedOption,
)
from vitreous.precision import Precision
from vitreous.ranges import PIXELS, above


@dataclasses.dataclass(kw_only=True)
class LoadOptions:
    """Which model."""

    model: Annotated[str, tyro.conf.Positional]
    """A timm name, a run folder, or a checkpoint that names its architecture."""
    checkpoint: Path | None = None
    """Weights to load into the architecture."""
    pretrained: bool = True
    """Take timm's weights; --no-pretrained scores the architecture with random weights."""
    image_size: Annotated[int, PIXELS] | None = None
    """Input height and width in pixels; the model's own by default."""
    degrees_of_view: Annotated[float, above(0)] = 8.0
    """Visual angle that the model is taken to see; Brain-Score's is 8."""


@dataclasses.dataclass(kw_only=True)
class ModelOptions(LoadOptions, BatchOption, DeviceOption, ResumeOptions, SeedOption):
    """Which model, how its activations are taken, and where results go."""

    storage: Literal["float32", "float16"] = "float32"
    """Type of the activation files."""
    precision: Precision = "float32"
    """Type of the forward pass."""
    cache: Path = Path("brain_cache")
    """Folder of the activations; they are reused as long as nothing they depend on changes."""
    name: str = ""
    """How results call the model."""
    out: Path | None = None
    """results.json to add to, or its folder; the run's own, else brain_results/MODEL/."""
    overwrite: bool = False
    """Write to folders although they hold what we did not make."""
