"""Trials that end early: Optuna's pruners, asked after the validation of each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from vitreous.training.run import RunFolder
from vitreous.training.settings import SelectionSettings

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage

Pruner = Literal["none", "median", "halving", "hyperband"]


class PrunedTrial(Exception):
    """A trial is not worth going on with; its run folder is whole."""


def make_pruner(kind: Pruner) -> BasePruner:
    """Optuna's pruner of a name, with Optuna's settings; halving begins with the first epoch."""
    from optuna import pruners

    if kind == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1)
    kinds = {
        "none": pruners.NopPruner,
        "median": pruners.MedianPruner,
        "hyperband": pruners.HyperbandPruner,
    }
    return kinds[kind]()


class EpochReports:
    """Tells a study the figure of each epoch of a trial, and asks its pruner.

    Args:
        study: With its pruner.
        storage: What the study is kept in.
        number: Of the trial, which may have been begun by another process.
        selection: Which figure it is.
        epochs: Of the whole trial; after the last nothing is left to prune.
    """

    def __init__(
        self,
        study: Study,
        storage: BaseStorage,
        number: int,
        selection: SelectionSettings,
        epochs: int,
    ):
        self.study, self.storage = study, storage
        self.selection, self.epochs = selection, epochs
        place = storage.get_study_id_from_name(study.study_name)
        self.trial_id = storage.get_trial_id_from_study_id_trial_number(place, number)

    def catch_up(self, folder: RunFolder) -> None:
        """Tell what a killed process did not come to tell.

        Raises:
            PrunedTrial: If the trial ends here.
        """
        told = self.storage.get_trial(self.trial_id).intermediate_values
        for row in folder.read_metrics():
            epoch = row["epoch"]
            if row["split"] == "validation" and isinstance(epoch, int) and epoch:
                figures = {k: v for k, v in row.items() if isinstance(v, int | float)}
                if epoch not in told:
                    self(epoch, figures)

    def __call__(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Tell the figure of an epoch.

        Args:
            epoch: Epochs done.
            figures: Of its validation.

        Raises:
            PrunedTrial: If the pruner ends the trial.
        """
        value = self.selection.value_of(figures)
        if value is None:
            return
        self.storage.set_trial_intermediate_value(self.trial_id, epoch, value)
        trial = self.storage.get_trial(self.trial_id)
        if epoch < self.epochs and self.study.pruner.prune(self.study, trial):
            raise PrunedTrial(f"pruned after epoch {epoch}")
