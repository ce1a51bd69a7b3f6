"""Search settings of a recipe; the study is a SQLite file, or a database that machines share.

Example:
    vitreous sweep robust_vit/vit_base --trials 10 --search optimizer.lr=log:5e-7:5e-6
        --data.images train/ --data.masks masks/
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from vitreous.config import parse_overrides
from vitreous.training.sweep import parse_axis, sweep

TAKES_OVERRIDES = True


@dataclasses.dataclass
class Command:
    """Search settings."""

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of a recipe in the package, or a YAML file."""

    search: list[str]
    """What is searched: KEY=log:LOW:HIGH, linear:LOW:HIGH, int:LOW:HIGH or choice:A:B."""

    trials: int = 10
    """Trials in all; a study that is there already goes on."""

    storage: str | None = None
    """Database URL that several machines share; a SQLite file in the folder where not given."""

    out: Path = Path("runs/sweep")
    """Folder of the study and its runs."""

    seed: int = 0
    """Of the sampler."""

    def run(self, overrides: list[str]) -> None:
        """Search, and print the best settings."""
        study = sweep(
            self.recipe,
            [parse_axis(text) for text in self.search],
            self.out,
            trials=self.trials,
            storage=self.storage,
            overrides=parse_overrides(overrides),
            seed=self.seed,
        )
        for trial in sorted(study.trials, key=lambda t: t.number):
            value = "—" if trial.value is None else f"{trial.value:.5g}"
            print(f"trial {trial.number:3d}  {value:>10}  {trial.params}")
        best = " ".join(f"--{key} {value}" for key, value in study.best_params.items())
        print(f"best: trial {study.best_trial.number}: {best}; runs and study are in {self.out}")
