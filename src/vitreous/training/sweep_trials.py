"""The trials of a sweep: which one to work on, and what came of it.

What a trial tries follows from the seed, its number and what came before, not from when the search
was started: killed and run again, it takes up the trial it was in, repeats none and loses none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.config import Values, plain
from vitreous.disk import writing
from vitreous.errors import DivergedError, VitreousError
from vitreous.training.engine import train
from vitreous.training.interrupt import StopRequest
from vitreous.training.recipe import Recipe, load_recipe
from vitreous.training.run import RunFolder
from vitreous.training.sweep_axes import Axis, chosen_settings, untried
from vitreous.training.sweep_locks import Locks, make_locks, open_storage
from vitreous.training.sweep_pruning import EpochReports, PrunedTrial, Pruner, make_pruner

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


@dataclasses.dataclass(frozen=True)
class Search:
    """A search, as each of its workers is given it.

    Attributes:
        recipe: Name or file.
        axes: What is searched.
        out: Folder of the study and of the runs.
        trials: Trials in all, over all workers.
        storage: Database URL; a SQLite file in `out` where not given.
        overrides: Laid over the recipe in every trial.
        seed: Of what is tried.
        pruner: What ends trials early.
        quiet: Show nothing.
    """

    recipe: str
    axes: Sequence[Axis]
    out: Path
    trials: int
    storage: str | None = None
    overrides: Values = dataclasses.field(default_factory=dict)
    seed: int = 0
    pruner: Pruner = "none"
    quiet: bool = True

    def settings(self, values: Mapping[str, object]) -> Recipe:
        """The recipe of a trial that tries some values."""
        return load_recipe(self.recipe, chosen_settings(self.axes, values, self.overrides))

    def folder(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.out / f"trial_{number:04d}"

    def known(self, trial: Trial | FrozenTrial) -> bool:
        """Whether all of a trial's settings were drawn."""
        return len(trial.params) == len(self.axes)


def open_study(search: Search) -> tuple[Study, BaseStorage]:
    """Create the study, or go on with the one that is there if it is the same search.

    Raises:
        VitreousError: If it cannot be opened, or holds another search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = search.storage or search.out / "study.db"
    base = load_recipe(search.recipe, search.overrides)
    axes = [plain(axis) for axis in search.axes]
    settings = {"axes": axes, "overrides": plain(search.overrides)}
    try:
        with writing(search.out):
            storage = open_storage(search.storage, search.out)
        study = optuna.create_study(
            study_name=search.recipe.replace("/", "-"),
            storage=storage,
            pruner=make_pruner(search.pruner),
            direction="minimize" if base.selection.mode == "min" else "maximize",
            load_if_exists=True,
        )
        stored = study.user_attrs.get("search")
        if stored is None:
            study.set_user_attr("search", settings)
    except VitreousError:
        raise
    except Exception as error:  # the database's own kinds, of which there are many
        line = str(error).strip().splitlines()[0]
        raise VitreousError(f"cannot open the study {place}: {line}") from error
    if stored not in (None, settings):
        raise VitreousError(
            f"{search.storage or search.out} holds a search of other settings; give another --out"
            + (" and another database" if search.storage else "")
        )
    return study, storage


def work(search: Search, *, bars: bool = True) -> None:
    """Work on trials until none is left.

    Args:
        search: The search, which another process may have opened.
        bars: Show the progress of each training, unless the search is quiet.

    Raises:
        InterruptedRun: If a signal asked for it, too late for the trial that it came in.
    """
    study, storage = open_study(search)
    with (
        contextlib.closing(make_locks(search.storage, study.study_name, search.out)) as locks,
        StopRequest() as stop,
    ):
        while stop.signal is None and (trial := _next(study, search, locks)) is not None:
            with trial.lock:
                _run(study, storage, trial, search, bars)
            if not search.quiet:
                done = next(t for t in study.get_trials() if t.number == trial.number)
                print(trial_line(study, done), file=sys.stderr, flush=True)
            if stop.signal is not None:
                raise stop.stopped(f"stopped after trial {trial.number}")
        if stop.signal is not None:
            raise stop.stopped("stopped before a trial began")


def all_tried(study: Study, search: Search) -> bool:
    """Whether nothing is left to do: no trial is in work, and none is to be drawn."""
    from optuna.trial import TrialState

    known = study.get_trials(deepcopy=False)
    tried = [trial.params for trial in known if search.known(trial)]
    if any(trial.state == TrialState.RUNNING for trial in known):
        return False
    return len(tried) >= search.trials or untried(search.axes, tried, search.seed) == {}


@dataclasses.dataclass(frozen=True)
class _Claimed:
    """A trial that this process works on."""

    number: int
    params: Mapping[str, object]
    lock: AbstractContextManager[object]


def _next(study: Study, search: Search, locks: Locks) -> _Claimed | None:
    """The trial to work on: one whose worker was killed, else a new one, else None."""
    from optuna.trial import TrialState

    with locks.study():
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            host = study.user_attrs.get(_host(trial), socket.gethostname())
            lock = locks.trial(trial.number) if locks.can_tell(host) else None
            if lock is not None and search.known(trial):
                return _Claimed(trial.number, trial.params, lock)
            if lock is not None:  # killed while it was being drawn: nothing was trained
                with lock:
                    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        known = study.get_trials(deepcopy=False)
        tried = [trial.params for trial in known if search.known(trial)]
        waiting = any(trial.state == TrialState.WAITING for trial in known)
        return None if len(tried) >= search.trials else _draw(study, search, locks, tried, waiting)


def _draw(
    study: Study,
    search: Search,
    locks: Locks,
    tried: Sequence[Mapping[str, object]],
    waiting: bool,
) -> _Claimed | None:
    """Draw the settings of a new trial; None where every combination was tried."""
    import optuna

    chosen = untried(search.axes, tried, search.seed)
    if chosen == {}:
        return None
    if chosen is not None and not waiting:
        study.enqueue_trial(chosen)
    # A sampler for each trial: one that started with the search would repeat itself when resumed.
    seed = (search.seed + 1_000_003 * len(tried)) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    trial = study.ask({axis.key: axis.distribution() for axis in search.axes})
    study.set_user_attr(_host(trial), socket.gethostname())
    lock = locks.trial(trial.number)
    if lock is None:
        raise VitreousError(f"trial {trial.number} is being worked on by another process")
    return _Claimed(trial.number, trial.params, lock)


def _host(trial: Trial | FrozenTrial) -> str:
    """Under what the study keeps which machine works on a trial."""
    return f"host_{trial.number}"


def _problem(number: int) -> str:
    """Under what the study keeps why a trial gave no figure, or ended early."""
    return f"problem_{number}"


def _run(study: Study, storage: BaseStorage, trial: _Claimed, search: Search, bars: bool) -> None:
    """Train a trial's run and tell the study what came of it."""
    from optuna.trial import TrialState

    folder, settings = search.folder(trial.number), search.settings(trial.params)
    selection, epochs = settings.selection, settings.training.epochs
    reports = EpochReports(study, storage, trial.number, selection, epochs)
    try:
        reports.catch_up(RunFolder(folder))
        train(settings, folder, quiet=search.quiet or not bars, after_epoch=reports)
    except (DivergedError, PrunedTrial) as end:
        study.set_user_attr(_problem(trial.number), str(end))
        state = TrialState.PRUNED if isinstance(end, PrunedTrial) else TrialState.FAIL
        study.tell(trial.number, state=state, skip_if_finished=True)
        return
    figure = best_figure(folder, str(selection.metric), str(selection.mode))
    study.tell(trial.number, figure, skip_if_finished=True)


def problem(study: Study, number: int) -> str:
    """Why a trial gave no figure, or ended early; empty where it ran to its end."""
    return study.user_attrs.get(_problem(number), "")


def trial_line(study: Study, trial: FrozenTrial) -> str:
    """A trial in a line: its number, its figure or what went wrong, its settings."""
    value = "—" if trial.value is None else f"{trial.value:.5g}"
    settings = " ".join(f"{key}={value}" for key, value in trial.params.items())
    told = problem(study, trial.number)
    return f"trial {trial.number:3d}  {value:>10}  {settings}  {told}".rstrip()


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
