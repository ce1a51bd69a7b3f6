"""Search settings of a recipe with Optuna; processes and machines can share one study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.config import Values, merge, parse_number
from vitreous.errors import VitreousError, require
from vitreous.folders import claim_folder
from vitreous.processes import world_size
from vitreous.training.recipe import load_recipe
from vitreous.training.sweep_axes import Axis, parse_axis
from vitreous.training.sweep_jobs import work_together
from vitreous.training.sweep_pruning import Pruner
from vitreous.training.sweep_report import completed, write_report
from vitreous.training.sweep_trials import Search, all_tried, open_study, problem, work

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["Axis", "Pruner", "parse_axis", "sweep"]


def sweep(
    recipe: str,
    axes: list[Axis],
    out: Path,
    *,
    trials: int,
    storage: str | None = None,
    overrides: Values | None = None,
    seed: int = 0,
    jobs: int = 1,
    pruner: Pruner = "none",
    quiet: bool = True,
    overwrite: bool = False,
) -> Study:
    """Train one run a trial and keep the figure that the recipe's selection names.

    A study that is there already goes on: `trials` counts those that it has. Where only choices and
    whole numbers are searched, no combination is tried twice, and the search ends with the last.
    The folder gets a table of the trials, the importance of the settings, a drawing of parallel
    coordinates, and the best recipe.

    Args:
        recipe: Name or file.
        axes: What is searched.
        out: Folder of the study and of the runs.
        trials: Trials in all, over all processes and machines.
        storage: Database URL; a SQLite file in `out` where not given.
        overrides: Laid over the recipe in every trial.
        seed: Of what is tried.
        jobs: Worker processes of this machine. A script that asks for several keeps its own work
            under `if __name__ == "__main__":`, since each imports it.
        pruner: Ends trials early by the validation of each epoch, as Optuna's of that name.
        quiet: No progress bars.
        overwrite: Write to the folder although it holds what we did not make.

    Returns:
        The Optuna study.

    Raises:
        VitreousError: Before the first trial, for a setting that the recipe does not take at an end
            of its range, or a folder with another search; later, if no trial gave a figure.
    """
    require("optuna", "sweep")
    search = Search(recipe, axes, out, trials, storage, overrides or {}, seed, pruner, quiet)
    _check(search)
    claim_folder(out, "sweep", overwrite=overwrite)
    study, _ = open_study(search)
    if not all_tried(study, search):
        work(search) if jobs == 1 else work_together(search, jobs)
    if not completed(study):
        raise VitreousError(f"no trial gave a figure: {problem(study, 0)}")
    write_report(study, search)
    return study


def _check(search: Search) -> None:
    """Build the recipe at each end of each range, so that no mistake waits for its trial."""
    if world_size() > 1:
        raise VitreousError(
            f"a sweep was started in {world_size()} processes at once; start it once, with --jobs "
            f"{world_size()}"
        )
    if not search.axes:
        raise VitreousError("give --search: what is searched")
    for axis in search.axes:
        if sum(other.key == axis.key for other in search.axes) > 1:
            raise VitreousError(f"--search names '{axis.key}' twice")
        for value in axis.values:
            end = value if axis.kind == "choice" else parse_number(value)
            end = int(end) if axis.kind == "int" else end
            load_recipe(search.recipe, merge(search.overrides, axis.override(end)))
