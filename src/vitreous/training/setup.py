"""What a run is set up with: devices and processes, the optimiser."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from vitreous.data.loading import TransformedDataset
from vitreous.data.readers import Split
from vitreous.data.transforms import compose
from vitreous.errors import VitreousError, require
from vitreous.processes import check_world, without_accelerator
from vitreous.training.recipe import OptimizerSettings, Recipe

Scalar = int | float | str | bool
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def make_accelerator(recipe: Recipe, out: Path) -> Accelerator:
    """Set up devices and processes for a recipe."""
    settings = recipe.training
    if settings.precision == "float16" and not torch.cuda.is_available():
        raise VitreousError("training.precision float16 needs a GPU; use bfloat16 or float32 here")
    if "wandb" in settings.trackers:
        require("wandb", "wandb")
        os.environ.setdefault("WANDB_MODE", "offline")
    AcceleratorState._reset_state()
    unused = DistributedDataParallelKwargs(
        find_unused_parameters="classification" not in recipe.objectives
    )
    accelerator = Accelerator(
        cpu=without_accelerator(),
        mixed_precision=PRECISIONS[settings.precision],
        log_with=list(settings.trackers) or None,
        project_dir=str(out),
        kwargs_handlers=[unused],
    )
    check_world(accelerator.num_processes)
    return accelerator


def transformed(split: Split, recipe: Recipe) -> tuple[TransformedDataset, TransformedDataset]:
    """The images of a split as training and validation see them.

    Raises:
        VitreousError: If there are none to train on.
    """
    seed, transforms = recipe.training.seed, recipe.transforms
    train = TransformedDataset(split.train, compose(transforms.train.values()), seed)
    if not len(train):
        raise VitreousError("the data source gave no pictures to train on")
    return train, TransformedDataset(
        split.validation, compose(transforms.validation.values()), seed
    )


def make_optimizer(model: torch.nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimiser over all weights."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if settings.name == "sgd":
        return torch.optim.SGD(
            weights, settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(weights, settings.lr, settings.betas, weight_decay=settings.weight_decay)


def flatten(values: object, key: str = "") -> dict[str, Scalar]:
    """Flatten nested settings to dotted keys with values that every tracker takes."""
    if isinstance(values, dict):
        flat: dict[str, Scalar] = {}
        for name, value in values.items():
            flat.update(flatten(value, f"{key}.{name}" if key else str(name)))
        return flat
    return {key: values if isinstance(values, (int, float, str, bool)) else str(values)}
