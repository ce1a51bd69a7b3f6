"""The model of a run: as it is trained, as it is validated, and as it is kept."""

from __future__ import annotations

import copy

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn

from vitreous.models import Classifier
from vitreous.models.recomputation import recompute_blocks
from vitreous.training.compiled import CompiledPass
from vitreous.training.graphs import Compilation
from vitreous.training.lora import add_adapters, merged
from vitreous.training.recipe import Recipe
from vitreous.training.setup import freeze, make_optimizer
from vitreous.training.sharding import check_sharding, gathered, shard


class TrainedModel:
    """A classifier prepared for training: adapters, frozen weights, shards, a moving average.

    Args:
        classifier: The model; changed in place.
        recipe: Of the run.
        accelerator: Of the run.

    Attributes:
        classifier: The model, unwrapped.
        sharded: Whether its weights are cut among processes, so that all must make its passes.
        wrapped: The model for the step, compiled and wrapped where that is asked for.
        compilation: What was compiled, where that is asked for.
        compiled: Makes the passes of a step then.
        optimizer: Over the weights that are trained.
        average: timm's moving average, where one is kept.
    """

    def __init__(self, classifier: Classifier, recipe: Recipe, accelerator: Accelerator):
        settings = recipe.training
        if settings.sharding != "none":
            check_sharding(recipe)
        self.classifier, self.recipe, self.accelerator = classifier, recipe, accelerator
        self.sharded = settings.sharding != "none" and accelerator.num_processes > 1
        self.lora = settings.lora_rank is not None
        if settings.lora_rank is not None:
            alpha, targets = settings.lora_alpha, settings.lora_targets
            add_adapters(classifier.net, settings.lora_rank, alpha, targets)
        keeps = self.sharded and accelerator.is_main_process
        self._whole = copy.deepcopy(classifier) if keeps else None
        freeze(classifier.net, settings.freeze)
        if settings.gradient_checkpointing:
            recompute_blocks(classifier)
        self.compilation: Compilation | None = None
        self.compiled: CompiledPass | None = None
        if settings.compile:
            strict, quiet = settings.compile == "strict", not accelerator.is_main_process
            self.compilation = Compilation(strict, quiet)
            self.compiled = CompiledPass(
                classifier, recipe.maps_wanted, self.compilation, recipe.gradients_wanted
            )
        self.wrapped, self.optimizer = self._prepare()
        self.average = None if settings.ema is None else ModelEmaV3(classifier, settings.ema)

    def _prepare(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The model for the step, and its optimiser over the weights as they are then."""
        accelerator = self.accelerator
        if self.sharded:
            shard(self.classifier, accelerator.device, accelerator.num_processes)
        optimizer = make_optimizer(self.classifier.net, self.recipe.optimizer)
        if self.sharded:
            return self.classifier, accelerator.prepare(optimizer)
        model = self.classifier if self.compiled is None else self.compiled.module
        return accelerator.prepare(model, optimizer)

    @property
    def validated(self) -> Classifier:
        """What is validated and kept: the trained model, or its moving average."""
        return self.classifier if self.average is None else self.average.module

    def update_average(self) -> None:
        """Let the moving average, if there is one, take in a step."""
        if self.average is not None:
            self.average.update(self.classifier)

    def kept(self) -> Classifier:
        """What is kept, plain and with present weights, in the main process; all must call it."""
        if not self.sharded:
            return self._merged(self.validated)
        state = gathered(self.classifier.net.state_dict())
        if self._whole is None:
            return self.classifier
        self._whole.net.load_state_dict(state)
        return self._merged(self._whole)

    def form(self) -> Classifier:
        """What is kept, for what it is built of: its weights may be those of another time."""
        return self._merged(self._whole or self.classifier)

    def _merged(self, model: Classifier) -> Classifier:
        return merged(model) if self.lora else model
