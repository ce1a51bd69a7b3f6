"""The engine: one loop for every recipe, on one process or many, resumable at any point."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from vitreous.config import plain
from vitreous.data.batch import Batch
from vitreous.data.loading import epoch_batches, load_batches
from vitreous.data.readers import Split
from vitreous.device import resolve_workers
from vitreous.errors import VitreousError
from vitreous.models import Classifier, save_model
from vitreous.results import Results
from vitreous.training.holding import held_by_all
from vitreous.training.interrupt import StopRequest
from vitreous.training.optimization import OptimizerStep
from vitreous.training.plain_log import PlainLog
from vitreous.training.progress import Progress
from vitreous.training.recipe import Recipe
from vitreous.training.rehearsal import rehearse
from vitreous.training.robust_validation import make_robust_validation, note_robustness
from vitreous.training.run import RunFolder, seed_everything
from vitreous.training.setup import check_fit, flatten, make_accelerator, transformed
from vitreous.training.state import TrainingState
from vitreous.training.summary import draw_samples, summarise
from vitreous.training.tracking import log_figures, log_samples, start_trackers
from vitreous.training.trained import TrainedModel
from vitreous.training.validation import Validated, validate

logger = logging.getLogger(__name__)
AfterEpoch = Callable[[int, Mapping[str, float]], None]


def train(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    classifier: Classifier | None = None,
    split: Split | None = None,
    quiet: bool = False,
    overwrite: bool = False,
    after_epoch: AfterEpoch | None = None,
) -> Results:
    """Train by a recipe, or go on with what an interrupted run left in the folder.

    Interrupted and resumed equals uninterrupted, bit for bit on the CPU.

    Args:
        recipe: The experiment.
        out: The run folder.
        classifier: Start from this model instead of the recipe's.
        split: Use these images instead of the recipe's.
        quiet: No progress bar.
        overwrite: Write to the folder although it holds what we did not make.
        after_epoch: Called with the epochs done and the figures of the validation, once the state
            is saved; what it raises ends the run, which can go on later.

    Returns:
        The results that were written to the folder.

    Raises:
        VitreousError: If the folder holds another recipe or is not ours, another process trains
            in it, images came or went since it was interrupted, an image cannot be read, the loss
            is not finite (says the step; the last good state is kept), or the disk is full.

    Examples:
        >>> import tempfile, vitreous
        >>> from vitreous.training import load_recipe
        >>> few = {"data": {"train": 8, "validation": 4}, "training": {"epochs": 1}}
        >>> recipe = load_recipe("demo/shortcut", few)
        >>> settings = {"pretrained": False, "num_classes": 8, "image_size": 48, "depth": 1}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> out = Path(tempfile.mkdtemp()) / "run"
        >>> results = train(recipe, out, classifier=model, quiet=True)
        >>> (out / "model.safetensors").is_file()
        True
    """
    with StopRequest() as stop:
        trainer = Trainer(recipe, Path(out), classifier, split, quiet, overwrite)
        trainer.stop, trainer.after_epoch = stop, after_epoch
        return trainer.run()


class Trainer:
    """State of one run; `train` is the way to use it.

    Args:
        recipe: The experiment.
        out: The run folder.
        classifier: Start from this model instead of the recipe's.
        split: Use these images instead of the recipe's.
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
        self.recipe, self.settings, self.quiet = recipe, recipe.training, quiet
        self.folder, self.overwrite = RunFolder(out), overwrite
        self.accelerator = make_accelerator(recipe, out)
        self.changed = self.folder.check(recipe, overwrite)
        seed_everything(recipe.training.seed)
        self.split = split or recipe.data.load(recipe.training.seed)
        if classifier is None:
            classifier, self.split = recipe.load_with_data(self.split)
        self.classifier = classifier
        self.train_data, self.validation_data = transformed(self.split, recipe)
        shown = {"train": self.train_data, "validation": self.validation_data}
        check_fit(recipe, self.split, self.classifier, shown)
        self.robust_validation = make_robust_validation(
            recipe.robust_validation, recipe.adversary, self.validation_data
        )
        rehearse(recipe, self.classifier, *shown.values(), self.robust_validation)
        self.workers = resolve_workers(
            self.settings.workers, self.accelerator.device, self.accelerator.num_processes
        )
        self.trained = TrainedModel(self.classifier, recipe, self.accelerator)
        self.model = self.trained.wrapped
        self.plain_log: PlainLog | None = None
        self.state = TrainingState(
            self.folder,
            self.accelerator,
            self.classifier.net,
            self.trained.optimizer,
            self.split,
            average=None if recipe.training.ema is None else self.trained.validated.net,
        )
        self.optimize = OptimizerStep(
            recipe, self.trained, self.accelerator, self.state, self.steps_per_epoch
        )
        path = recipe.training.continue_from
        if path is not None and not self.folder.has_state:
            self.state.continue_from(path, recipe.training.epochs, self.steps_per_epoch)
        self.stop = StopRequest()
        self.after_epoch: AfterEpoch | None = None
        self.compiling_told = False

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self.state.progress

    def run(self) -> Results:
        """Train to the end; returns (and writes) the results."""
        with held_by_all(self.folder.path, self.accelerator):
            return self.run_alone()

    def run_alone(self) -> Results:
        """Train to the end in a folder that no other process writes to."""
        if self.accelerator.is_main_process:
            self.folder.prepare(self.recipe, self.overwrite)
        self.accelerator.wait_for_everyone()
        self.draw_more_samples()
        resumed = self.state.resume()
        if self.progress.epoch > self.settings.epochs:
            raise VitreousError(
                f"{self.folder.path} has done {self.progress.epoch} epochs already; set "
                "training.epochs to that or more"
            )
        start_trackers(self.accelerator, flatten(plain(self.recipe)))
        if not resumed:
            self.begin()
        with self.progress_bar() as bar:
            while self.progress.epoch < self.settings.epochs:
                self.run_epoch(bar)
        self.finish()
        return Results.read(self.folder.path)

    def begin(self) -> None:
        """Measure and save what the run starts from."""
        model = self.trained.kept()
        if self.accelerator.is_main_process:
            self.show_samples(model, "before")
        self.accelerator.wait_for_everyone()
        measured = self.validate() | self.measure_robustness()
        self.recipe.selection.value_of(measured.means)  # refuses a figure that there is not
        self.log_validation(measured)
        self.state.save()

    def finish(self) -> None:
        """Write what the run leaves for its reader."""
        if self.accelerator.is_main_process:
            model = self.trained.form()  # the weights of the best epoch are read
            self.show_samples(model, "after")
            self.state.count_seconds()
            made = self.trained.compilation
            compiled = None if made is None or not made.graphs else made.values()
            summarise(self.folder, model, self.recipe, self.split, self.progress, compiled)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()  # the last: it ends the processes' group

    def show_samples(self, model: Classifier, when: str) -> None:
        """Draw samples `before` or `after` the training, in the folder and in the trackers."""
        draw_samples(self.folder, model, self.validation_data, self.recipe, when)
        log_samples(self.accelerator, self.folder, when, self.progress.step)

    def progress_bar(self) -> tqdm:
        """A bar over all steps, shown by the main process on a terminal."""
        shown = self.accelerator.is_main_process and not self.quiet
        if shown and not sys.stderr.isatty():
            size = self.settings.batch_size
            self.plain_log = PlainLog(self.total_steps, self.progress.step, size)
        return tqdm(
            total=self.total_steps,
            initial=self.progress.step,
            disable=None if shown else True,
            desc=self.folder.path.name,
            unit="step",
        )

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.optimize.total_steps

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the training images."""
        return math.ceil(len(self.train_data) / self.settings.batch_size)

    def run_epoch(self, bar: tqdm) -> None:
        """Train the rest of the present epoch, validate, keep the model if it is the best."""
        settings, progress = self.settings, self.progress
        batches = self.remaining_batches()
        mine = [self.optimize.own_share(batch) for batch in batches]
        self.model.train()
        loader = load_batches(self.train_data, mine, progress.epoch, self.workers)
        for whole, batch in zip(batches, loader):
            self.after_step(self.step(batch, whole), bar)
        progress.epoch, progress.position = progress.epoch + 1, 0
        measured = self.validate() | self.measure_robustness()
        self.log_validation(measured)
        figures = measured.means
        self.keep_if_best(figures)
        self.state.save()
        if self.after_epoch is not None:
            self.after_epoch(progress.epoch, figures)
        if progress.epoch < settings.epochs:
            self.stop_if_asked()

    def remaining_batches(self) -> list[list[int]]:
        """Rows of the batches of the present epoch that were not trained on yet."""
        settings, progress, count = self.settings, self.progress, len(self.train_data)
        order = settings.batch_size, settings.seed, progress.epoch, settings.shuffle
        return epoch_batches(count, *order, self.split.interleave)[progress.position :]

    def after_step(self, figures: dict[str, float], bar: tqdm) -> None:
        """Count and log a step, save where the recipe asks for it, end the run if asked to."""
        progress, every = self.progress, self.settings.checkpoint_every
        progress.position += 1
        progress.step += 1
        self.log("train", figures)
        if self.plain_log is not None and (line := self.plain_log.line(progress.step, figures)):
            print(line, file=sys.stderr, flush=True)
        bar.update()
        shown = [key for key in ("loss", "accuracy", "lr") if key in figures]
        bar.set_postfix({key: f"{figures[key]:.4g}" for key in shown})
        if every and progress.step % every == 0 and progress.position < self.steps_per_epoch:
            self.state.save()
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """End the run, its state saved, if a signal asked for it."""
        if not self.stop.agreed(self.accelerator):
            return
        self.state.save()
        step = f"step {self.progress.step} of {self.total_steps}"
        raise self.stop.stopped(f"stopped at {step}, saved in {self.folder.path}")

    def step(self, batch: Batch, whole: Sequence[int]) -> dict[str, float]:
        """One optimiser step; returns the figures to log. At the first one, tell of compiling."""
        started = time.perf_counter()
        figures = self.optimize(batch, whole)
        made = self.trained.compilation
        if made is not None and not self.compiling_told:
            self.compiling_told = True
            if not self.quiet and self.accelerator.is_main_process:
                took = time.perf_counter() - started
                print(f"{made} (the first step took {took:.1f} s)", flush=True)
        return figures

    def validate(self) -> Validated:
        """Figures over all validation images, each counted once."""
        return validate(
            self.accelerator,
            self.trained.validated,
            self.validation_data,
            self.recipe.objectives,
            batch_size=self.settings.validation_batch_size,
            workers=self.workers,
            together=self.trained.sharded,
        )

    def measure_robustness(self) -> Validated:
        """Robust and clean accuracy; reports catastrophic overfitting in the epoch it happens."""
        if self.robust_validation is None:
            return Validated()
        figures = self.robust_validation(self.trained.validated)
        warning = note_robustness(self.progress, figures.means)
        if warning is not None and self.accelerator.is_main_process:
            logger.warning(warning)
        return figures

    def keep_if_best(self, figures: dict[str, float]) -> None:
        """Write the model if this epoch is the best so far (or nothing tells them apart)."""
        selection, progress = self.recipe.selection, self.progress
        value = selection.value_of(figures)
        if value is not None and not (
            math.isfinite(value) and selection.better(value, progress.best)
        ):
            return
        progress.best, progress.best_epoch = value, progress.epoch
        model = self.trained.kept()
        if self.accelerator.is_main_process:
            save_model(model, self.folder.path)

    def log_validation(self, measured: Validated) -> None:
        """Write figures of the validation, with the images and the interval of each."""
        figures, progress = measured.means, self.progress
        told = self.accelerator.is_main_process and not self.quiet and not sys.stderr.isatty()
        if figures and told:
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            print(f"epoch {progress.epoch} of {self.settings.epochs}: {shown}", flush=True)
        self.log("validation", figures, n=measured.counts, ci95=measured.intervals)

    def log(self, split: str, figures: dict[str, float], **more: Mapping[str, object]) -> None:
        """Write figures to the metrics and the trackers, and what else is known to the metrics."""
        if not figures or not self.accelerator.is_main_process:
            return
        progress = self.progress
        head = {"step": progress.step, "epoch": progress.epoch, "split": split}
        self.folder.log({**head, **figures, **more})
        log_figures(self.accelerator, split, figures, progress.step)

    def draw_more_samples(self) -> None:
        """Draw what a run that goes on did not draw at its start, before its state is loaded."""
        if "training.samples" not in self.changed or self.settings.continue_from is not None:
            return
        if self.accelerator.is_main_process and self.folder.checkpoint.is_file():
            draw_samples(self.folder, self.classifier, self.validation_data, self.recipe, "before")
