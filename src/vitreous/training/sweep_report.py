"""What a sweep leaves for its reader: a table, what mattered, a drawing, the best recipe."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from vitreous.config import to_yaml
from vitreous.io import write_json, write_text
from vitreous.training.sweep_figure import draw_parallel_coordinates
from vitreous.training.sweep_trials import Search, problem, trial_line

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

BEST, TABLE, IMPORTANCE, DRAWING = (
    "best.yaml",
    "trials.csv",
    "importance.json",
    "parallel_coordinates.png",
)


def completed(study: Study) -> list[FrozenTrial]:
    """Trials that ran to their end, by number."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def trials_table(study: Study) -> list[str]:
    """A line for each trial."""
    return [trial_line(study, trial) for trial in study.get_trials(deepcopy=False)]


def importance(study: Study) -> dict[str, float]:
    """Share of the figure's variance that each setting explains, the largest first.

    By fANOVA (Hutter, Hoos and Leyton-Brown 2014) over the trials that ran to their end; empty
    with fewer than two of them.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if len(completed(study)) < 2:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=0)
    return dict(get_param_importances(study, evaluator=evaluator))


def write_report(study: Study, search: Search) -> None:
    """Write `trials.csv`, `importance.json`, `parallel_coordinates.png` and `best.yaml`.

    The best recipe is whole: `vitreous train best.yaml` trains it.
    """
    write_text(search.out / TABLE, _table(study, search))
    write_json(search.out / IMPORTANCE, importance(study))
    figures = [(t.params, t.value) for t in completed(study) if t.value is not None]
    metric = str(search.settings(study.best_params).selection.metric)
    draw_parallel_coordinates(search.axes, figures, metric, search.out / DRAWING)
    write_text(search.out / BEST, to_yaml(search.settings(study.best_params)))


def _table(study: Study, search: Search) -> str:
    text = io.StringIO()
    keys = [axis.key for axis in search.axes]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "state", "figure", *keys, "problem"])
    for trial in study.get_trials(deepcopy=False):
        figure = "" if trial.value is None else trial.value
        values = [trial.params.get(key, "") for key in keys]
        state = trial.state.name.lower()
        table.writerow([trial.number, state, figure, *values, problem(study, trial.number)])
    return text.getvalue()
