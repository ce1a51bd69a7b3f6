"""What a run is set up with: devices and processes, the optimiser."""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs
from timm.optim import (
    create_optimizer_v2,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import nn

from vitreous.data.loading import TransformedDataset, collate
from vitreous.data.readers import Split
from vitreous.data.readers.groups import require_groups
from vitreous.data.stores.cached import with_cached_masks
from vitreous.data.transforms import compose
from vitreous.errors import VitreousError, nearest, require
from vitreous.models import Classifier
from vitreous.models.modes import evaluation_mode
from vitreous.processes import check_launcher, check_world, without_accelerator
from vitreous.training.recipe import Recipe
from vitreous.training.settings import OPTIMIZERS, OptimizerSettings

logger = logging.getLogger(__name__)
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
    installed = {str(getattr(t, "value", t)) for t in get_available_trackers()}
    for name in settings.trackers:
        if name not in installed:
            raise VitreousError(f"training.trackers {name} needs a package: pip install {name}")
    check_launcher()
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
    shown, held_out = with_cached_masks(split.train), with_cached_masks(split.validation)
    view, exact = compose(transforms.train.values()), compose(transforms.validation.values())
    reduction = view.reduction if transforms.decoding == "reduced" else None
    train = TransformedDataset(shown, view.as_read, seed, reduction)
    if not len(train):
        raise VitreousError("the data source gave no pictures to train on")
    return train, TransformedDataset(held_out, exact.as_read, seed)


def check_fit(
    recipe: Recipe,
    split: Split,
    classifier: Classifier,
    shown: Mapping[str, TransformedDataset],
) -> None:
    """Refuse, before the first file is written, data that the model or an objective cannot take.

    Args:
        recipe: The recipe.
        split: What its data source gave.
        classifier: Its model, on its device.
        shown: The images as training and validation see them, under these names.

    Raises:
        VitreousError: For labels that the model has no class for, masks or groups that are needed
            and that there are none of, or images of a size that the transforms or the model do not
            take.
    """
    highest = int(split.train.labels.max(initial=-1))
    lacking = 0 < classifier.num_classes <= highest  # 0: the network does not say
    if lacking and recipe.about("label"):
        raise VitreousError(
            f"the data has labels up to {highest}, so {highest + 1} classes, {classifier.name} a "
            f"head of {classifier.num_classes}; set model.num_classes to {highest + 1} for a fresh "
            "head, or give a model that has one"
        )
    if recipe.mixing.active and (highest < 0 or classifier.num_classes < 1):
        raise VitreousError(
            "mixing mixes labels: it needs data with labels and a model that says its classes; set "
            "mixing.mixup and mixing.cutmix to 0"
        )
    if "masks" in recipe.needs and split.train.masks is None:
        names = [n for n, o in recipe.objectives.items() if "masks" in o.needs]
        raise VitreousError(f"objective '{names[0]}' needs masks and the data has none")
    if "masks" in recipe.needs and len(split.validation) and split.validation.masks is None:
        names = [n for n, o in recipe.objectives.items() if "masks" in o.needs]
        logger.warning(
            "the validation images have no masks: the validation loss is without %s",
            " and ".join(names),
        )
    if "groups" in recipe.needs:
        names = [n for n, o in recipe.objectives.items() if "groups" in o.needs]
        require_groups(split.train, f"objective {names[0]}")
    for name, dataset in shown.items():
        if len(dataset):
            _check_images(dataset, classifier, f"transforms.{name}")


def _check_images(dataset: TransformedDataset, classifier: Classifier, where: str) -> None:
    """Put the first image through its transforms and the model."""
    try:
        image = collate([dataset[0, 0]]).to(classifier.device).images
        with torch.inference_mode(), evaluation_mode(classifier):
            classifier(image)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise VitreousError(
            f"{where} do not fit the images or {classifier.name}: {' '.join(str(error).split())}"
        ) from error


def freeze(net: nn.Module, patterns: Sequence[str]) -> None:
    """Take the weights whose names match out of the training.

    Raises:
        VitreousError: If a pattern matches none, or nothing is left to train.
    """
    names = [name for name, _ in net.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise VitreousError(
                f"training.freeze: '{pattern}' is no weight; {nearest(pattern, names)}"
            )
    for name, weight in net.named_parameters():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in net.parameters()):
        raise VitreousError("training.freeze leaves no weight to train")


def make_optimizer(net: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimiser over all weights that are trained.

    Raises:
        VitreousError: If timm's optimiser refuses its options.
    """
    weights = parameter_groups(net, settings)
    if settings.name == "sgd":
        return torch.optim.SGD(
            weights, settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
    if settings.name in OPTIMIZERS:
        kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
        return kind(weights, settings.lr, settings.betas, weight_decay=settings.weight_decay)
    try:
        return create_optimizer_v2(
            weights,
            settings.name,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            **settings.options,
        )
    except (TypeError, ImportError, AssertionError) as error:
        raise VitreousError(f"optimizer.name {settings.name}: {error}") from error


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: float) -> float:
    """Give the optimiser the learning rate of a moment of the run, in epochs; returns it."""
    settings = recipe.optimizer
    rate = settings.rate(recipe.schedule(settings.lr, epoch, recipe.training.epochs), epoch)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    return rate


def parameter_groups(
    net: nn.Module, settings: OptimizerSettings
) -> list[dict[str, object]] | list[nn.Parameter]:
    """All trained weights, or groups of them, made by timm, with `lr_scale` and `weight_decay`."""
    exempt = getattr(net, "no_weight_decay", set)()
    decay = settings.weight_decay
    if settings.layer_decay is not None:
        return param_groups_layer_decay(
            net,
            decay,
            no_weight_decay_list=() if settings.decay_biases else exempt,
            weight_decay_exclude_1d=not settings.decay_biases,
            layer_decay=settings.layer_decay,
        )
    if not settings.decay_biases:
        return param_groups_weight_decay(net, decay, no_weight_decay_list=exempt)
    return [p for p in net.parameters() if p.requires_grad]


def flatten(values: object, key: str = "") -> dict[str, Scalar]:
    """Flatten nested settings to dotted keys with values that every tracker takes."""
    if isinstance(values, dict):
        flat: dict[str, Scalar] = {}
        for name, value in values.items():
            flat.update(flatten(value, f"{key}.{name}" if key else str(name)))
        return flat
    return {key: values if isinstance(values, (int, float, str, bool)) else str(values)}
