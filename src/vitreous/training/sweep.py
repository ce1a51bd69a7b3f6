"""Search settings of a recipe with Optuna; several machines can share one study.

What a trial tries follows from the seed, its number and what came before, not from when the search
was started: killed and run again, it takes up the trial it was in, repeats none and loses none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import random
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.config import Values, merge, parse_number, plain
from vitreous.errors import DivergedError, VitreousError, require
from vitreous.folders import claim_folder
from vitreous.training.engine import train
from vitreous.training.recipe import Recipe, load_recipe
from vitreous.training.run import RunFolder
from vitreous.training.sweep_locks import Locks, make_locks, open_storage
from vitreous.yaml_text import parse_yaml

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FORM = "expected KEY=log:LOW:HIGH, linear:LOW:HIGH, int:LOW:HIGH or choice:A:B, found "
LARGEST_GRID = 10_000


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

    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.kind == "choice":
            return CategoricalDistribution(self.values)
        low, high = (parse_number(value) for value in self.values)
        if self.kind == "int":
            return IntDistribution(int(low), int(high))
        return FloatDistribution(low, high, log=self.kind == "log")

    def grid(self) -> list[str | int] | None:
        """Every value, or None where there are more than can be told."""
        if self.kind == "choice":
            return list(self.values)
        if self.kind == "int":
            low, high = (int(parse_number(value)) for value in self.values)
            return list(range(low, high + 1)) if high - low < LARGEST_GRID else None
        return None

    def override(self, value: object) -> Values:
        """The recipe's setting at one value."""
        if isinstance(value, str):
            value = parse_yaml(value, f"--search {self.key}")
        *parents, leaf = self.key.split(".")
        nested: Values = {leaf: value}
        for name in reversed(parents):
            nested = {name: nested}
        return nested


def parse_axis(text: str) -> Axis:
    """Read `KEY=log:LOW:HIGH`, `KEY=linear:LOW:HIGH`, `KEY=int:LOW:HIGH` or `KEY=choice:A:B:…`.

    Raises:
        VitreousError: For any other form, or a range that is none.
    """
    match = re.fullmatch(r"(\w+(?:\.\w+)*)=(log|linear|int|choice):(.+)", text)
    if match is None:
        raise VitreousError(f"{FORM}'{text}'")
    key, kind, values = match[1], match[2], tuple(match[3].split(":"))
    if kind == "choice":
        return Axis(key, kind, tuple(dict.fromkeys(values)))
    if len(values) != 2:
        raise VitreousError(f"{FORM}'{text}'")
    low, high = (_number(value, text) for value in values)
    if low > high:
        raise VitreousError(f"--search {text}: expected LOW:HIGH, found {low:g} above {high:g}")
    if kind == "log" and low <= 0:
        raise VitreousError(f"--search {text}: a logarithm needs numbers above 0, found {low:g}")
    if kind == "int" and (low % 1 or high % 1):
        raise VitreousError(f"--search {text}: expected whole numbers")
    return Axis(key, kind, values)


def _number(value: str, text: str) -> float:
    try:
        return parse_number(value)
    except VitreousError as error:
        raise VitreousError(f"--search {text}: expected a number, found '{value}'") from error


def sweep(
    recipe: str,
    axes: list[Axis],
    out: Path,
    *,
    trials: int,
    storage: str | None = None,
    overrides: Values | None = None,
    seed: int = 0,
    quiet: bool = True,
    overwrite: bool = False,
) -> Study:
    """Train one run a trial and keep the figure that the recipe's selection names.

    A study that is there already goes on: `trials` counts those that it has. Where only choices and
    whole numbers are searched, no combination is tried twice, and the search ends with the last.

    Args:
        recipe: Name or file.
        axes: What is searched.
        out: Folder of the study and of the runs.
        trials: Trials in all, over all machines.
        storage: Database URL; a SQLite file in `out` where not given.
        overrides: Laid over the recipe in every trial.
        seed: Of what is tried.
        quiet: No progress bars.
        overwrite: Write to the folder although it holds what we did not make.

    Returns:
        The Optuna study.

    Raises:
        VitreousError: Before the first trial, for a setting that the recipe does not take at an end
            of its range, or a folder with another search; later, if no trial gave a figure.
    """
    require("optuna", "sweep")
    base = _check(recipe, axes, overrides or {})
    claim_folder(out, "sweep", overwrite=overwrite)
    study = _open(recipe, base, axes, out, storage, overrides or {})
    with contextlib.closing(make_locks(storage, study.study_name, out)) as locks:
        while (trial := _next(study, axes, locks, trials, seed)) is not None:
            with trial.lock:
                _run(study, trial, recipe, axes, overrides or {}, out, quiet)
    if not any(trial.value is not None for trial in study.trials):
        raise VitreousError(f"no trial gave a figure: {study.user_attrs.get(_problem(0), '')}")
    return study


@dataclasses.dataclass(frozen=True)
class _Claimed:
    """A trial that this process works on."""

    number: int
    params: Mapping[str, object]
    lock: AbstractContextManager[object]


def _check(recipe: str, axes: list[Axis], overrides: Values) -> Recipe:
    """Build the recipe at each end of each range, so that no mistake waits for its trial."""
    if not axes:
        raise VitreousError("give --search: what is searched")
    for axis in axes:
        if sum(other.key == axis.key for other in axes) > 1:
            raise VitreousError(f"--search names '{axis.key}' twice")
        for value in axis.values:
            end = value if axis.kind == "choice" else parse_number(value)
            end = int(end) if axis.kind == "int" else end
            load_recipe(recipe, merge(overrides, axis.override(end)))
    return load_recipe(recipe, overrides)


def _open(
    recipe: str, base: Recipe, axes: list[Axis], out: Path, storage: str | None, overrides: Values
) -> Study:
    """Create the study, or go on with the one that is there if it is the same search."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            study_name=recipe.replace("/", "-"),
            storage=open_storage(storage, out),
            direction="minimize" if base.selection.mode == "min" else "maximize",
            load_if_exists=True,
        )
        settings = {"axes": [plain(axis) for axis in axes], "overrides": plain(overrides)}
        stored = study.user_attrs.get("search")
        if stored is None:
            study.set_user_attr("search", settings)
    except OSError as error:
        raise VitreousError(f"cannot write to {out}: {error.strerror or error}") from error
    except Exception as error:  # the database's own kinds, of which there are many
        line = str(error).strip().splitlines()[0]
        raise VitreousError(
            f"cannot open the study {storage or out / 'study.db'}: {line}"
        ) from error
    if stored not in (None, settings):
        raise VitreousError(
            f"{storage or out} holds a search of other settings; give another --out"
            + (" and another database" if storage else "")
        )
    return study


def _next(study: Study, axes: list[Axis], locks: Locks, trials: int, seed: int) -> _Claimed | None:
    """The trial to work on: one whose worker was killed, else a new one, else None."""
    from optuna.trial import TrialState

    with locks.study():
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            host = study.user_attrs.get(_host(trial), socket.gethostname())
            lock = locks.trial(trial.number) if locks.can_tell(host) else None
            if lock is not None and len(trial.params) == len(axes):
                return _Claimed(trial.number, trial.params, lock)
            if lock is not None:  # killed while it was being drawn: nothing was trained
                with lock:
                    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        known = study.get_trials(deepcopy=False)
        tried = [trial.params for trial in known if len(trial.params) == len(axes)]
        waiting = any(trial.state == TrialState.WAITING for trial in known)
        return None if len(tried) >= trials else _draw(study, axes, locks, tried, waiting, seed)


def _draw(
    study: Study,
    axes: list[Axis],
    locks: Locks,
    tried: Sequence[Mapping[str, object]],
    waiting: bool,
    seed: int,
) -> _Claimed | None:
    """Draw the settings of a new trial; None where every combination was tried."""
    import optuna

    chosen = _untried(axes, tried, seed)
    if chosen == {}:
        return None
    if chosen is not None and not waiting:
        study.enqueue_trial(chosen)
    # A sampler for each trial: one that started with the search would repeat itself when resumed.
    study.sampler = optuna.samplers.TPESampler(seed=(seed + 1_000_003 * len(tried)) % 2**32)
    trial = study.ask({axis.key: axis.distribution() for axis in axes})
    study.set_user_attr(_host(trial), socket.gethostname())
    lock = locks.trial(trial.number)
    if lock is None:
        raise VitreousError(f"trial {trial.number} is being worked on by another process")
    return _Claimed(trial.number, trial.params, lock)


def _host(trial: Trial | FrozenTrial) -> str:
    """Under what the study keeps which machine works on a trial."""
    return f"host_{trial.number}"


def _problem(number: int) -> str:
    """Under what the study keeps why a trial gave no figure."""
    return f"problem_{number}"


def _untried(
    axes: list[Axis], tried: Sequence[Mapping[str, object]], seed: int
) -> dict[str, str | int] | None:
    """A combination not tried before, {} where none is left, None where there is no end of them."""
    grids = [axis.grid() for axis in axes]
    sizes = [len(grid) if grid is not None else math.inf for grid in grids]
    if math.prod(sizes) > LARGEST_GRID:
        return None
    every = [
        dict(zip((axis.key for axis in axes), values))
        for values in itertools.product(*(grid for grid in grids if grid is not None))
    ]
    random.Random(seed).shuffle(every)
    return next((values for values in every if values not in tried), {})


def _run(
    study: Study,
    trial: _Claimed,
    recipe: str,
    axes: list[Axis],
    overrides: Values,
    out: Path,
    quiet: bool,
) -> None:
    """Train a trial's run and tell the study what came of it."""
    from optuna.trial import TrialState

    folder = out / f"trial_{trial.number:04d}"
    values = overrides
    for axis in axes:
        values = merge(values, axis.override(trial.params[axis.key]))
    settings = load_recipe(recipe, values)
    try:
        train(settings, folder, quiet=quiet)
    except DivergedError as error:
        study.set_user_attr(_problem(trial.number), str(error))
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return
    selection = settings.selection
    figure = best_figure(folder, str(selection.metric), str(selection.mode))
    study.tell(trial.number, figure, skip_if_finished=True)


def trials_table(study: Study) -> list[str]:
    """A line for each trial: its number, its figure or what went wrong, its settings."""
    lines = []
    for trial in sorted(study.trials, key=lambda trial: trial.number):
        value = "—" if trial.value is None else f"{trial.value:.5g}"
        settings = " ".join(f"{key}={value}" for key, value in trial.params.items())
        problem = study.user_attrs.get(_problem(trial.number), "")
        lines.append(f"trial {trial.number:3d}  {value:>10}  {settings}  {problem}".rstrip())
    return lines


def best_figure(folder: Path, metric: str, mode: str) -> float:
    """The best value of a validation figure after training began."""
    name = metric.removeprefix("validation/")
    rows = [
        r for r in RunFolder(folder).read_metrics() if r["split"] == "validation" and r["epoch"]
    ]
    values = [row.get(name) for row in rows]
    values = [value for value in values if isinstance(value, int | float)]
    if not values:
        raise VitreousError(f"{folder} has no figure '{metric}'")
    return min(values) if mode == "min" else max(values)
