"""The engine: one loop for every recipe, on one process or many, resumable at any point."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from timm.utils import ModelEmaV3
from tqdm import tqdm

from vitreous.attacks.randomness import shared_draws
from vitreous.config import plain
from vitreous.data.batch import Batch
from vitreous.data.loading import (
    TransformedDataset,
    derive_seed,
    epoch_batches,
    load_batches,
)
from vitreous.data.readers import Split
from vitreous.data.transforms import compose
from vitreous.errors import DivergedError, VitreousError
from vitreous.locks import folder_lock
from vitreous.models import Classifier, save_model
from vitreous.results import Results
from vitreous.training.adversaries.shares import own_state, whole_state
from vitreous.training.changes import DataState, compare
from vitreous.training.continuation import continue_checkpoint
from vitreous.training.figures import Figures
from vitreous.training.interrupt import StopRequest
from vitreous.training.plain_log import PlainLog
from vitreous.training.progress import Progress
from vitreous.training.recipe import Recipe
from vitreous.training.robust_validation import make_robust_validation, sudden_drop
from vitreous.training.run import (
    RunFolder,
    random_state,
    restore_random_state,
    seed_everything,
)
from vitreous.training.setup import flatten, freeze, make_accelerator, make_optimizer
from vitreous.training.step import Share, compute_loss
from vitreous.training.summary import draw_samples, summarise
from vitreous.training.validation import validate

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    classifier: Classifier | None = None,
    split: Split | None = None,
    quiet: bool = False,
    overwrite: bool = False,
) -> Results:
    """Train by a recipe, or go on with what an interrupted run left in the folder.

    Interrupted and resumed equals uninterrupted, bit for bit on the CPU.

    Args:
        recipe: The experiment.
        out: The run folder.
        classifier: Start from this model instead of the recipe's.
        split: Use these pictures instead of the recipe's.
        quiet: No progress bar.
        overwrite: Write to the folder although it holds what we did not make.

    Returns:
        The results that were written to the folder.

    Raises:
        VitreousError: If the folder holds another recipe or is not ours, another process trains
            in it, images came or went since it was interrupted, a picture cannot be read, the loss
            is not finite (says the step; the last good state is kept), or the disk is full.
    """
    with StopRequest() as stop:
        trainer = Trainer(recipe, Path(out), classifier, split, quiet, overwrite)
        trainer.stop = stop
        return trainer.run()


class Trainer:
    """State of one run; `train` is the way to use it.

    Args:
        recipe: The experiment.
        out: The run folder.
        classifier: Start from this model instead of the recipe's.
        split: Use these pictures instead of the recipe's.
        quiet: No progress bar.
        overwrite: Write to the folder although it holds what we did not make.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        classifier: Classifier | None = None,
        split: Split | None = None,
        quiet: bool = False,
        overwrite: bool = False,
    ):
        settings = recipe.training
        self.recipe, self.settings, self.quiet = recipe, settings, quiet
        self.folder, self.overwrite = RunFolder(out), overwrite
        self.accelerator = make_accelerator(recipe, out)
        self.changed = self.folder.check(recipe, overwrite)
        seed_everything(settings.seed)
        self.split = split or recipe.data.load(settings.seed)
        self.classifier = classifier or recipe.model.load(self.split.class_names)
        transforms = recipe.transforms
        self.train_data = TransformedDataset(
            self.split.train, compose(transforms.train.values()), settings.seed
        )
        self.validation_data = TransformedDataset(
            self.split.validation, compose(transforms.validation.values()), settings.seed
        )
        if not len(self.train_data):
            raise VitreousError("the data source gave no pictures to train on")
        freeze(self.classifier.net, settings.freeze)
        optimizer = make_optimizer(self.classifier.net, recipe.optimizer)
        model = torch.compile(self.classifier) if settings.compile else self.classifier
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.ema = None if settings.ema is None else ModelEmaV3(self.classifier, settings.ema)
        self.plain_log: PlainLog | None = None
        self.figures = Figures(self.accelerator)
        self.adversary_state: dict[str, torch.Tensor] = {}
        self.robust_validation = make_robust_validation(
            recipe.robust_validation, recipe.adversary, self.validation_data
        )
        self.progress = Progress()
        self.stop = StopRequest()
        self.data_state = DataState.of(self.split)
        self.counted_until = time.monotonic()

    def run(self) -> Results:
        """Train to the end; returns (and writes) the results."""
        main = self.accelerator.is_main_process
        with folder_lock(self.folder.path, "training", main=main):
            return self.run_alone()

    def run_alone(self) -> Results:
        """Train to the end in a folder that no other process writes to."""
        if self.accelerator.is_main_process:
            self.folder.prepare(self.recipe, self.overwrite)
        self.accelerator.wait_for_everyone()
        self.draw_more_samples()
        resumed = self.resume()
        self.accelerator.init_trackers("logs", flatten(plain(self.recipe)))
        main = self.accelerator.is_main_process
        if not resumed:
            self.continue_checkpoint()
            if main:
                draw_samples(
                    self.folder, self.classifier, self.validation_data, self.recipe, "before"
                )
            self.accelerator.wait_for_everyone()
            self.log("validation", {**self.validate(), **self.measure_robustness()})
            self.save()
        total = self.settings.epochs * self.steps_per_epoch
        if main and not self.quiet and not sys.stderr.isatty():
            self.plain_log = PlainLog(total, self.progress.step, self.settings.batch_size)
        with tqdm(
            total=total,
            initial=self.progress.step,
            disable=True if self.quiet or not main else None,
            desc=self.folder.path.name,
            unit="step",
        ) as bar:
            while self.progress.epoch < self.settings.epochs:
                self.run_epoch(bar)
        if main:
            draw_samples(self.folder, self.classifier, self.validation_data, self.recipe, "after")
            self.count_seconds()
            progress = vars(self.progress)
            summarise(self.folder, self.classifier, self.recipe, self.split, progress)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()  # the last: it ends the processes' group
        return Results.read(self.folder.path)

    def count_seconds(self) -> None:
        """Add the time since the last call to that of the run, over all its resumptions."""
        now = time.monotonic()
        self.progress.seconds += now - self.counted_until
        self.counted_until = now

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the training pictures."""
        return math.ceil(len(self.train_data) / self.settings.batch_size)

    def run_epoch(self, bar: tqdm) -> None:
        """Train the rest of the present epoch, validate, keep the model if it is the best."""
        settings, progress = self.settings, self.progress
        batches = epoch_batches(
            len(self.train_data),
            settings.batch_size,
            settings.seed,
            progress.epoch,
            settings.shuffle,
            self.split.interleave,
        )[progress.position :]
        mine = [self.own_share(batch) for batch in batches]
        self.model.train()
        loader = load_batches(self.train_data, mine, progress.epoch, settings.workers)
        for whole, batch in zip(batches, loader):
            figures = self.step(batch, whole)
            progress.position += 1
            progress.step += 1
            self.log("train", figures)
            if self.plain_log is not None and (line := self.plain_log.line(progress.step, figures)):
                print(line, file=sys.stderr, flush=True)
            bar.update()
            shown = [key for key in ("loss", "accuracy", "lr") if key in figures]
            bar.set_postfix({key: f"{figures[key]:.4g}" for key in shown})
            every = settings.checkpoint_every
            if every and progress.step % every == 0 and progress.position < self.steps_per_epoch:
                self.save()
            self.stop_if_asked()
        progress.epoch, progress.position = progress.epoch + 1, 0
        figures = {**self.validate(), **self.measure_robustness()}
        self.log("validation", figures)
        self.keep_if_best(figures)
        self.save()
        if progress.epoch < settings.epochs:
            self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """End the run, its state saved, if a signal asked for it."""
        if not self.stop.agreed(self.accelerator):
            return
        self.save()
        total = self.settings.epochs * self.steps_per_epoch
        step = f"step {self.progress.step} of {total}"
        raise self.stop.stopped(f"stopped at {step}, saved in {self.folder.path}")

    def own_share(self, batch: Sequence[int]) -> list[int]:
        """The rows of a batch that this process reads; one to stand in where there is none."""
        share = list(batch[self.accelerator.process_index :: self.accelerator.num_processes])
        return share or [batch[0]]

    def step(self, batch: Batch, whole: Sequence[int]) -> dict[str, float]:
        """One optimiser step; returns the figures to log."""
        accelerator, settings, progress = self.accelerator, self.settings, self.progress
        seed_everything(settings.seed, progress.step, accelerator.process_index)
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        places = range(accelerator.process_index, len(whole), accelerator.num_processes)
        masked = self.count_masked(batch, len(places))
        size = math.ceil(len(batch) / settings.accumulation)
        starts = range(0, len(batch), size)
        figures: dict[str, torch.Tensor] = {}
        for start in starts:
            part = batch.rows(start, start + size).to(accelerator.device)
            last = start == starts[-1]
            with accelerator.no_sync(self.model) if not last else contextlib.nullcontext():
                rows = list(places)[start : start + size]
                share = Share(len(rows), len(whole), masked, accelerator.num_processes)
                seed = derive_seed(settings.seed, progress.step)
                with shared_draws(rows or [0], len(whole), seed, accelerator.device):
                    found = self.backward(part, share)
            for key, value in found.items():
                figures[key] = figures.get(key, 0.0) + value
        values = self.figures.mean(figures)
        self.require_finite(values)
        if settings.clip_norm is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.classifier)
        return {**values, "lr": rate}

    def learning_rate(self) -> float:
        """Base learning rate of the present step."""
        epoch = self.progress.step / self.steps_per_epoch
        optimizer = self.recipe.optimizer
        return optimizer.rate(
            self.recipe.schedule(optimizer.lr, epoch, self.settings.epochs), epoch
        )

    @property
    def kept(self) -> Classifier:
        """The model that is validated and kept: the trained one, or its moving average."""
        return self.classifier if self.ema is None else self.ema.module

    def backward(self, batch: Batch, share: Share) -> dict[str, torch.Tensor]:
        """Perturb, forward, backward of one part of a batch.

        Returns:
            Figures whose sum over parts, averaged over processes, is that of the whole batch.
        """
        done = self.progress.step / (self.settings.epochs * self.steps_per_epoch)
        # What stands in for an empty share leaves no trace in what the adversary remembers.
        copied = {key: value.clone() for key, value in self.adversary_state.items()}
        state = self.adversary_state if share.rows else copied
        clean = batch.images
        with self.accelerator.autocast():
            if self.recipe.adversary is not None:
                perturbed = self.recipe.adversary(self.classifier, clean, batch.labels, state, done)
                batch = dataclasses.replace(batch, images=perturbed)
            loss = compute_loss(
                self.model,
                self.classifier,
                batch,
                self.recipe.objectives,
                clean=clean,
                progress=done,
            )
        scaled = loss.scaled(share)
        self.accelerator.backward(scaled)
        masked = loss.masked_weight(share)
        figures = {
            key: value * (masked if key in loss.masked_figures else share.weight)
            for key, value in loss.figures.items()
        }
        return {**figures, "loss": scaled.detach()}

    def count_masked(self, batch: Batch, rows: int) -> int:
        """Rows of the step that have a mask, over all processes; `rows` are this one's."""
        own = batch.has_mask[:rows].sum()
        if self.accelerator.num_processes == 1 or "masks" not in self.recipe.needs:
            return int(own)
        return int(self.accelerator.reduce(own.to(self.accelerator.device), "sum"))

    def require_finite(self, values: dict[str, float]) -> None:
        """Stop at a loss that is not a number, before it reaches the weights."""
        if math.isfinite(values["loss"]):
            return
        parts = ", ".join(f"{k} {v:.3g}" for k, v in values.items() if not math.isfinite(v))
        kept = f"the last good state is kept in {self.folder.checkpoint}"
        raise DivergedError(
            f"the loss is not finite at step {self.progress.step + 1} (epoch "
            f"{self.progress.epoch + 1}): {parts}; {kept}; lower optimizer.lr, set "
            "training.clip_norm, or use training.precision float32"
        )

    def validate(self) -> dict[str, float]:
        """Figures over all validation pictures, each counted once."""
        return validate(
            self.accelerator,
            self.kept,
            self.validation_data,
            self.recipe.objectives,
            batch_size=self.settings.validation_batch_size,
            workers=self.settings.workers,
        )

    def measure_robustness(self) -> dict[str, float]:
        """Figures of the PGD probe; reports catastrophic overfitting in the epoch it happens."""
        if self.robust_validation is None:
            return {}
        progress = self.progress
        figures = self.robust_validation(self.kept)
        progress.robust.append(figures["robust_accuracy"])
        progress.clean_accuracies.append(figures["clean_accuracy"])
        message = sudden_drop(progress.robust, progress.clean_accuracies)
        if message is not None:
            progress.warnings.append(f"epoch {progress.epoch}: {message}")
            if self.accelerator.is_main_process:
                logger.warning("epoch %d: %s", progress.epoch, message)
        return figures

    def keep_if_best(self, figures: dict[str, float]) -> None:
        """Write the model if this epoch is the best so far (or nothing tells them apart)."""
        selection, progress = self.recipe.selection, self.progress
        name = str(selection.metric).removeprefix("validation/")
        if figures and name not in figures:
            raise VitreousError(
                f"selection.metric: no figure '{selection.metric}'; there are "
                + ", ".join(f"validation/{key}" for key in figures)
            )
        value = figures.get(name)
        if value is not None and not (
            math.isfinite(value) and selection.better(value, progress.best)
        ):
            return
        progress.best, progress.best_epoch = value, progress.epoch
        if self.accelerator.is_main_process:
            save_model(self.kept, self.folder.path)

    def log(self, split: str, figures: dict[str, float]) -> None:
        """Write figures to the metrics and the trackers."""
        if not figures or not self.accelerator.is_main_process:
            return
        progress = self.progress
        head = {"step": progress.step, "epoch": progress.epoch, "split": split}
        if split == "validation" and not self.quiet and not sys.stderr.isatty():
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            print(f"epoch {progress.epoch} of {self.settings.epochs}: {shown}", flush=True)
        self.folder.log({**head, **figures})
        self.accelerator.log({f"{split}/{k}": v for k, v in figures.items()}, step=progress.step)

    def save(self) -> None:
        """Write the resumable state."""
        self.accelerator.wait_for_everyone()
        own = {key: value.cpu() for key, value in self.adversary_state.items()}
        every = gather_object([own])
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        self.count_seconds()
        self.folder.save_state(
            {
                "model": self.classifier.net.state_dict(),
                "ema": None if self.ema is None else self.kept.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "adversary": [whole_state(every)],
                "progress": dict(self.progress.__dict__),
                "random": random_state(),
                "metrics_size": self.folder.metrics_size(),
                "data": self.data_state.plain(),
            }
        )

    def continue_checkpoint(self) -> None:
        """Start where a checkpoint of the published scripts stopped, if the recipe names one."""
        path, epochs = self.settings.continue_from, self.settings.epochs
        if path is not None:
            epoch = continue_checkpoint(path, self.classifier.net, self.optimizer, epochs)
            self.progress.epoch, self.progress.step = epoch, epoch * self.steps_per_epoch

    def draw_more_samples(self) -> None:
        """Draw what a run that goes on did not draw at its start, before its state is loaded."""
        if "training.samples" not in self.changed or self.settings.continue_from is not None:
            return
        if self.accelerator.is_main_process and self.folder.checkpoint.is_file():
            draw_samples(self.folder, self.classifier, self.validation_data, self.recipe, "before")

    def resume(self) -> bool:
        """Go on from the last state, if there is one; returns whether there was."""
        state = self.folder.load_state(self.classifier.net.state_dict())
        if state is None:
            if self.accelerator.is_main_process:
                self.folder.rewind(0)
            return False
        self.classifier.net.load_state_dict(state["model"])
        if self.ema is not None:
            self.kept.net.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        device = self.accelerator.device
        accelerator = self.accelerator
        own = own_state(
            whole_state(state["adversary"]), accelerator.process_index, accelerator.num_processes
        )
        self.adversary_state = {k: v.to(device) for k, v in own.items()}
        self.progress = Progress(**state["progress"])
        if self.progress.epoch > self.settings.epochs:
            raise VitreousError(
                f"{self.folder.path} has done {self.progress.epoch} epochs already; set "
                "training.epochs to that or more"
            )
        self.compare_data(state)
        restore_random_state(state["random"])
        if self.accelerator.is_main_process:
            self.folder.rewind(state["metrics_size"])
        return True

    def compare_data(self, state: dict[str, Any]) -> None:
        """Notice images that came, went or were replaced since a state was saved."""
        if "data" not in state:  # of a version that did not store it
            return
        self.data_state = DataState(**state["data"])
        message = compare(self.data_state, self.split)
        if message and message not in self.progress.warnings:
            self.progress.warnings.append(message)
            if self.accelerator.is_main_process:
                logger.warning("%s", message)
