"""Options that commands share, each declared once; a command inherits those that it takes.

    @dataclasses.dataclass(kw_only=True)
    class Command(DeviceOption, LimitOption): …

A command whose default differs declares the field again with the same type:
`batch_size: BatchSize = 64`. Importing this module does not import torch.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vitreous.errors import VitreousError
from vitreous.ranges import SEED, at_least

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
BatchSize = Annotated[int, at_least(1), tyro.conf.arg(help="Images in one pass through the model.")]


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

    workers: Annotated[int, at_least(0)] = 2
    """Processes that read images beside each model."""


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


def resolve_device(name: str, rank: int = 0) -> torch.device:
    """The device that a name means on this machine.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:N`, or another of torch's.
        rank: Number of this process among those of the machine, which share its GPUs.

    Raises:
        VitreousError: For a name that is no device, or a device that this machine does not have.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cuda") and count:
        return torch.device("cuda", rank % count)
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # each backend has its own kind
        has = "cpu" + (f", cuda:0 to cuda:{count - 1}" if count else " and no GPU")
        raise VitreousError(
            f"there is no device '{name}' here; expected auto, cpu, cuda or cuda:N (this machine "
            f"has {has})"
        ) from error
    return device
