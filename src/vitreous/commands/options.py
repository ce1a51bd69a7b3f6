"""Options that commands share, each declared once; a command inherits those that it takes.

    @dataclasses.dataclass(kw_only=True)
    class Command(DeviceOption, LimitOption): …

A command whose default differs declares the field again with the same type:
`batch_size: BatchSize = 64`. Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.config import Values
from vitreous.device import resolve_device, resolve_workers
from vitreous.io import check_path
from vitreous.precision import Precision
from vitreous.ranges import BATCH, READERS, SEED, above, at_least

__all__ = [
    "RADIUS",
    "STEP_SIZE",
    "BatchOption",
    "BatchSize",
    "DeviceOption",
    "LimitOption",
    "PrecisionOption",
    "QuietOption",
    "RecipeOptions",
    "RestartOption",
    "ResumeOptions",
    "SeedOption",
    "Workers",
    "WorkersOption",
    "model_place",
    "quick_imports",
    "resolve_device",
    "resolve_workers",
]


@contextlib.contextmanager
def quick_imports() -> Generator[None]:
    """Search for no garbage while modules are imported: they are none, and it takes a fifth of it.

    Examples:
        >>> with quick_imports():
        ...     import json
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def model_place(model: str, checkpoint: Path | None = None) -> str:
    """Which model it is, for `Results.check_owner`: absolute paths, or timm's name."""
    check_path(model, "model")
    path = Path(model).expanduser()
    name = str(path.resolve()) if path.exists() else model
    return name if checkpoint is None else f"{name} with {checkpoint.resolve()}"


RADIUS, STEP_SIZE = at_least(0), above(0)  # of numbers that are written as text: 2/255
Workers = Annotated[int, READERS] | Literal["auto"]
BatchSize = Annotated[int, BATCH, tyro.conf.arg(help="Images in one pass through the model.")]


@dataclasses.dataclass(kw_only=True)
class DeviceOption:
    """Where to compute."""

    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""


@dataclasses.dataclass(kw_only=True)
class PrecisionOption:
    """In which type to compute."""

    precision: Precision = "float32"
    """Type of the forward pass."""


@dataclasses.dataclass(kw_only=True)
class BatchOption:
    """How many images at once."""

    batch_size: BatchSize = 32


@dataclasses.dataclass(kw_only=True)
class WorkersOption:
    """How images are read."""

    workers: Workers = "auto"
    """Processes that read images beside each model; auto: by the processors that each has."""


@dataclasses.dataclass(kw_only=True)
class LimitOption:
    """How much of a dataset to take."""

    limit: Annotated[int, at_least(0)] = 0
    """At most this many images of each dataset, evenly spread; 0 means all."""


@dataclasses.dataclass(kw_only=True)
class RestartOption:
    """What to do with what an earlier run left."""

    restart: bool = False
    """Delete what an earlier run wrote, and begin anew."""


@dataclasses.dataclass(kw_only=True)
class ResumeOptions(RestartOption):
    """What to do with what an earlier run left, and how to know an image again."""

    check_content: bool = False
    """Know images again by what is in them, not by name, size and time of change; slower."""


@dataclasses.dataclass(kw_only=True)
class SeedOption:
    """Of everything random."""

    seed: Annotated[int, SEED] = 0
    """Everything random follows from it."""


@dataclasses.dataclass(kw_only=True)
class QuietOption:
    """What to show while working."""

    quiet: bool = False
    """No progress bars."""


@dataclasses.dataclass(kw_only=True)
class RecipeOptions:
    """A recipe, any setting of which is an option: `--optimizer.lr 1e-6`."""

    overrides: tyro.conf.Suppress[Values] = dataclasses.field(default_factory=dict)
    """Settings laid over the recipe: every option that is not the command's own."""
