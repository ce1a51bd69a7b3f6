"""Search settings of a recipe with Optuna; several machines can share one study."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from vitreous.config import merge, parse_number, parse_overrides
from vitreous.errors import VitreousError, require
from vitreous.training.engine import train
from vitreous.training.recipe import load_recipe
from vitreous.training.run import RunFolder


@dataclasses.dataclass(frozen=True)
class Axis:
    """One setting that is searched.

    Attributes:
        key: Dotted key in the recipe.
        kind: `log`, `linear`, `int` or `choice`.
        values: Lowest and highest value, or the choices as YAML text.
    """

    key: str
    kind: str
    values: tuple[str, ...]

    def suggest(self, trial: Any) -> Any:
        """Ask a trial for a value."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.key, list(self.values))
        low, high = (parse_number(v) for v in self.values)
        if self.kind == "int":
            return trial.suggest_int(self.key, int(low), int(high))
        return trial.suggest_float(self.key, low, high, log=self.kind == "log")


def parse_axis(text: str) -> Axis:
    """Read `KEY=log:LOW:HIGH`, `KEY=linear:LOW:HIGH`, `KEY=int:LOW:HIGH` or `KEY=choice:A:B:…`.

    Raises:
        VitreousError: For any other form.
    """
    found = re.fullmatch(r"([\w.]+)=(log|linear|int|choice):(.+)", text)
    values = tuple(found[3].split(":")) if found else ()
    if found is None or (found[2] != "choice" and len(values) != 2):
        raise VitreousError(
            "expected KEY=log:LOW:HIGH, linear:LOW:HIGH, int:LOW:HIGH or choice:A:B, "
            f"found '{text}'"
        )
    return Axis(found[1], found[2], values)


def sweep(
    recipe: str,
    axes: list[Axis],
    out: Path,
    *,
    trials: int,
    storage: str | None = None,
    overrides: dict[str, Any] | None = None,
    seed: int = 0,
) -> Any:
    """Train one run a trial and keep the figure that the recipe's selection names.

    A study that is there already goes on: `trials` counts those that it has.

    Args:
        recipe: Name or file.
        axes: What is searched.
        out: Folder of the study and of the runs.
        trials: Trials in all, over all machines.
        storage: Database URL; a SQLite file in `out` where not given.
        overrides: Laid over the recipe in every trial.
        seed: Of the sampler.

    Returns:
        The Optuna study.
    """
    optuna = require("optuna", "sweep")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    selection = load_recipe(recipe, overrides).selection
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=recipe.replace("/", "-"),
        storage=storage or f"sqlite:///{out / 'study.db'}",
        sampler=optuna.samplers.TPESampler(seed=seed),
        direction="minimize" if selection.mode == "min" else "maximize",
        load_if_exists=True,
    )

    def objective(trial: Any) -> float:
        chosen: dict[str, Any] = {}
        for axis in axes:
            chosen = merge(chosen, parse_overrides([f"--{axis.key}", str(axis.suggest(trial))]))
        folder = out / f"trial_{trial.number:04d}"
        train(load_recipe(recipe, merge(overrides or {}, chosen)), folder)
        return best_figure(folder, str(selection.metric), str(selection.mode))

    done = sum(t.state.is_finished() for t in study.trials)
    study.optimize(objective, n_trials=max(0, trials - done), catch=())
    return study


def best_figure(folder: Path, metric: str, mode: str) -> float:
    """The best value of a validation figure after training began."""
    name = metric.removeprefix("validation/")
    rows = [
        r for r in RunFolder(folder).read_metrics() if r["split"] == "validation" and r["epoch"]
    ]
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        raise VitreousError(f"{folder} has no figure '{metric}'")
    return min(values) if mode == "min" else max(values)
