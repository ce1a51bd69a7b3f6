"""Search settings of a recipe; the study is a SQLite file, or a database that machines share.

Killed, or stopped with Ctrl-C, and run again, it takes up the trial it was in; with more --trials
it goes on. A trial that diverges is told and does not end the search. Every setting of the recipe
is an option, as for `vitreous train`. The folder gets trials.csv, importance.json,
parallel_coordinates.png and best.yaml, a recipe that `vitreous train` takes.

Example:
    vitreous sweep robust_vit/vit_base --trials 10 --search optimizer.lr=log:5e-7:5e-6
        --data.images train/ --data.masks masks/
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.commands.options import QuietOption, RecipeOptions, SeedOption
from vitreous.ranges import at_least


@dataclasses.dataclass(kw_only=True)
class Command(RecipeOptions, SeedOption, QuietOption):
    """Search settings."""

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of a recipe in the package, or a YAML file."""

    search: tuple[str, ...]
    """What is searched: KEY=log:LOW:HIGH, linear:LOW:HIGH, int:LOW:HIGH or choice:A:B."""

    trials: Annotated[int, at_least(1)] = 10
    """Trials in all; a study that is there already goes on."""

    jobs: Annotated[int, at_least(1)] = 1
    """Worker processes of this machine; one that is killed is started again."""

    pruner: Literal["none", "median", "halving", "hyperband"] = "none"
    """Ends trials early by the validation of each epoch, as Optuna's of that name."""

    storage: str | None = None
    """Database URL that several machines share; a SQLite file in the folder where not given."""

    out: Path = Path("runs/sweep")
    """Folder of the study and its runs."""

    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make."""

    def run(self) -> None:
        """Search, and print the best settings."""
        from vitreous.training.sweep import parse_axis, sweep
        from vitreous.training.sweep_report import BEST, DRAWING, importance, trials_table

        study = sweep(
            self.recipe,
            [parse_axis(text) for text in self.search],
            self.out,
            trials=self.trials,
            storage=self.storage,
            overrides=self.overrides,
            seed=self.seed,
            jobs=self.jobs,
            pruner=self.pruner,
            quiet=self.quiet,
            overwrite=self.overwrite,
        )
        print("\n".join(trials_table(study)))
        for key, share in importance(study).items():
            print(f"importance  {share:>6.1%}  {key}")
        best = " ".join(f"--{key} {value}" for key, value in study.best_params.items())
        print(f"best: trial {study.best_trial.number}: {best}")
        print(f"train it by {self.out / BEST}; drawn in {self.out / DRAWING}; runs in {self.out}")
