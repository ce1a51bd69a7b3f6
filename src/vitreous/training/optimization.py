"""One optimiser step on a batch that processes share: mixed, perturbed, accumulated."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator

from vitreous.attacks.randomness import shared_draws
from vitreous.data.batch import Batch
from vitreous.data.loading import derive_seed
from vitreous.training.adversaries.gradient import passes_made_by
from vitreous.training.figures import Figures, require_finite
from vitreous.training.recipe import Recipe
from vitreous.training.run import seed_everything
from vitreous.training.setup import set_rate
from vitreous.training.state import TrainingState
from vitreous.training.step import Share, compute_loss
from vitreous.training.trained import TrainedModel


class OptimizerStep:
    """Makes the optimiser steps of a run.

    Args:
        recipe: The experiment.
        trained: The model and its optimiser.
        accelerator: Which of several processes this is.
        state: Where the run stands, and what its adversary remembers.
        steps_per_epoch: Steps in one pass over the training images.
    """

    def __init__(
        self,
        recipe: Recipe,
        trained: TrainedModel,
        accelerator: Accelerator,
        state: TrainingState,
        steps_per_epoch: int,
    ):
        self.recipe, self.settings = recipe, recipe.training
        self.trained, self.accelerator, self.state = trained, accelerator, state
        self.steps_per_epoch = steps_per_epoch
        self.figures = Figures(accelerator)
        groups = state.split.train.groups
        needed = groups is not None and "groups" in recipe.needs
        self.group_sizes = torch.from_numpy(np.bincount(groups)) if needed else None
        if trained.compiled is not None:
            trained.compiled.rows = self.most_rows()

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.settings.epochs * self.steps_per_epoch

    def own_share(self, batch: Sequence[int]) -> list[int]:
        """The rows of a batch that this process reads; one to stand in where there is none."""
        share = [batch[place] for place in self.own_places(len(batch))]
        return share or [batch[0]]

    def own_places(self, count: int, process: int | None = None) -> list[int]:
        """Places in a batch of the rows that this process, or another one, reads."""
        process = self.accelerator.process_index if process is None else process
        return self.recipe.mixing.places(count, process, self.accelerator.num_processes)

    def most_rows(self) -> int:
        """Rows of the largest pass that this process makes: a part of its share of a batch."""
        whole = min(self.settings.batch_size, len(self.state.split.train))
        return math.ceil(len(self.own_places(whole, 0)) / self.settings.accumulation)

    def mixed(self, batch: Batch) -> Batch:
        """The batch with its images mixed, if the recipe mixes: by one draw for all processes."""
        if not self.recipe.mixing.active:
            return batch
        seed_everything(self.settings.seed, self.state.progress.step)
        batch = batch.to(torch.device("cpu"))
        return self.recipe.mixing.mix(batch, self.trained.classifier.num_classes)

    def __call__(self, batch: Batch, whole: Sequence[int]) -> dict[str, float]:
        """Make one step.

        Args:
            batch: The rows that this process has read.
            whole: The rows of the batch, over all processes.

        Returns:
            The figures to log.
        """
        accelerator = self.accelerator
        batch = self.mixed(batch)
        seed_everything(self.settings.seed, self.state.progress.step, accelerator.process_index)
        epoch = self.state.progress.step / self.steps_per_epoch
        rate = set_rate(self.trained.optimizer, self.recipe, epoch)
        values = self.figures.mean(self.backward_parts(batch, whole))
        require_finite(values, self.state.progress, self.state.folder.checkpoint)
        if self.settings.clip_norm is not None:
            accelerator.clip_grad_norm_(self.trained.wrapped.parameters(), self.settings.clip_norm)
        self.trained.optimizer.step()
        self.trained.optimizer.zero_grad(set_to_none=True)
        self.trained.update_average()
        return {**values, "lr": rate}

    def backward_parts(self, batch: Batch, whole: Sequence[int]) -> dict[str, torch.Tensor]:
        """Run `backward` on each part of a batch, and add up the figures."""
        accelerator = self.accelerator
        places = self.own_places(len(whole))
        masked = self.count_masked(batch, len(places))
        longest = len(self.own_places(len(whole), 0))  # no share is longer
        size = math.ceil(longest / self.settings.accumulation)
        starts = range(0, longest if self.trained.sharded else len(batch), size)
        figures: dict[str, torch.Tensor] = {}
        for start in starts:
            own = start if start < len(batch) else 0  # a row to stand in for none
            part = batch.rows(own, own + size if own == start else 1).to(accelerator.device)
            together = contextlib.nullcontext()
            if start != starts[-1]:
                together = accelerator.no_sync(self.trained.wrapped)
            with together:
                rows = places[start : start + size]
                share = Share(len(rows), len(whole), masked, accelerator.num_processes)
                seed = derive_seed(self.settings.seed, self.state.progress.step)
                with shared_draws(rows or [0], len(whole), seed, accelerator.device):
                    added = self.backward(part, share)
            for key, value in added.items():
                figures[key] = figures.get(key, 0.0) + value
        return figures

    def backward(self, batch: Batch, share: Share) -> dict[str, torch.Tensor]:
        """Perturb, forward, backward of one part of a batch.

        Returns:
            Figures whose sum over parts, averaged over processes, is that of the whole batch.
        """
        done = self.state.progress.step / self.total_steps
        # What stands in for an empty share leaves no trace in what the adversary remembers.
        copied = {key: value.clone() for key, value in self.state.adversary.items()}
        state = self.state.adversary if share.rows else copied
        clean = batch.images
        with self.accelerator.autocast():
            if self.recipe.adversary is not None:
                with passes_made_by(self.trained.compiled):
                    perturbed = self.recipe.adversary(
                        self.trained.classifier, clean, batch.labels, state, done
                    )
                batch = dataclasses.replace(batch, images=perturbed)
            loss = compute_loss(
                self.trained.wrapped,
                self.trained.classifier,
                batch,
                self.recipe.objectives,
                clean=clean,
                progress=done,
                memory=self.state.memory,
                group_sizes=self.group_sizes,
                compiled=self.trained.compiled,
                together=self.trained.sharded and "masks" in self.recipe.needs,
            )
        scaled = loss.scaled(share)
        self.accelerator.backward(scaled)
        return {**loss.share_of_figures(share), "loss": scaled.detach()}

    def count_masked(self, batch: Batch, rows: int) -> int:
        """Rows of the step that have a mask, over all processes; `rows` are this one's."""
        own = batch.has_mask[:rows].sum()
        if self.accelerator.num_processes == 1 or "masks" not in self.recipe.needs:
            return int(own)
        return int(self.accelerator.reduce(own.to(self.accelerator.device), "sum"))
