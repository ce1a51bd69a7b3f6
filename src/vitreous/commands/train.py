"""Train or finetune a model from a recipe; run again, it goes on where it stopped.

Every setting of the recipe is an option: --optimizer.lr 1e-6, --training.epochs 5,
--objectives.relevance.foreground 0. `vitreous train RECIPE --show` prints all of them as the
recipe has them, `vitreous train RECIPE --settings` with their types and ranges. Ctrl-C finishes
the step and saves; twice stops at once. Several processes: torchrun --nproc-per-node 2 -m
vitreous.cli train …; on a cluster: --submit slurm --nodes 2 --gpus 8 --minutes 720, which is
queued again until it is done.

Example:
    vitreous train robust_vit/vit_base --data.images train/ --data.masks masks/ --out runs/guided
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vitreous.commands.options import QuietOption, RecipeOptions
from vitreous.config import Values, describe, to_yaml
from vitreous.overrides import merge
from vitreous.ranges import above, at_least
from vitreous.recipes import list_recipes

if TYPE_CHECKING:
    from vitreous.training import Recipe


@dataclasses.dataclass(kw_only=True)
class Command(RecipeOptions, QuietOption):
    """Train from a recipe."""

    recipe: Annotated[str | None, tyro.conf.Positional] = None
    """Name of a recipe in the package, or a YAML file; without one, the names are listed."""

    out: Path | None = None
    """Run folder; runs/RECIPE where not given."""

    show: bool = False
    """Print the resolved recipe and stop."""

    settings: bool = False
    """Print every setting of the recipe with its type and range, and stop."""

    overwrite: bool = False
    """Write to the run folder although it holds what vitreous did not make."""

    submit: Literal["slurm", "local"] | None = None
    """Train as a job of Slurm, or of this machine, and return at once."""

    minutes: Annotated[int, at_least(1)] = 720
    """Time limit of a job; it saves and is queued again before that."""

    nodes: Annotated[int, at_least(1)] = 1
    """Machines of a job."""

    processes: Annotated[int, at_least(1)] = 1
    """Processes a machine of a job without GPUs."""

    gpus: Annotated[int, at_least(0)] = 0
    """GPUs a machine of a job, with a process each."""

    cpus: Annotated[int, at_least(1)] = 4
    """CPU cores a process of a job."""

    memory: Annotated[float, above(0)] | None = None
    """Gigabytes a machine of a job; the cluster's own where not given."""

    partition: str | None = None
    """Of Slurm; the cluster's own where not given."""

    def run(self) -> None:
        """Train, and say where the results are."""
        if self.recipe is None:
            print("\n".join(list_recipes()))
            return
        from vitreous.training import load_recipe

        given = self._listed() if self.show or self.settings else self.overrides
        recipe = load_recipe(self.recipe, given)
        if self.show:
            print(to_yaml(recipe), end="")
        elif self.settings:
            print("\n".join(describe(recipe)))
        else:
            out = self.out or Path("runs") / Path(self.recipe).with_suffix("").name
            self._train(recipe, out) if self.submit is None else self._submit(recipe, out)

    def _listed(self) -> Values:
        """The overrides, with words where a listing does without the images."""
        from vitreous.training.recipe import recipe_values

        data = merge(recipe_values(str(self.recipe)), self.overrides).get("data")
        return merge({"data": _with_places(data)}, self.overrides)

    def _submit(self, recipe: Recipe, out: Path) -> None:
        from vitreous.training.submission import Resources, submit

        names = [field.name for field in dataclasses.fields(Resources)]
        asked = {name: value for name, value in vars(self).items() if name in names}
        job = submit(
            recipe,
            out,
            cluster=str(self.submit),
            resources=Resources(**asked),
            overwrite=self.overwrite,
        )
        print(f"job {job.job_id} trains in {out}; its logs are in {job.paths.folder}")

    def _train(self, recipe: Recipe, out: Path) -> None:
        from vitreous.training import train

        results = train(recipe, out, quiet=self.quiet, overwrite=self.overwrite)
        for record in results.records:
            moment = record.settings.get("moment", "")
            print(f"{moment:>6}  {record.metric:<32} {record.value:.4f}  (n = {record.n})")
        print(f"model, metrics, samples and results are in {out}")


def _with_places(data: object) -> object:
    """Settings of data, with the name of a setting for each that is missing and has no default."""
    from vitreous.data.readers.base import READERS

    if not isinstance(data, dict):
        return data
    filled = {key: _with_places(value) for key, value in data.items()}
    if (name := data.get("name")) in READERS:
        reader: Any = READERS[str(name)]
        filled |= {
            field.name: field.name.upper()
            for field in dataclasses.fields(reader)
            if field.default is field.default_factory is dataclasses.MISSING
            and field.init
            and field.name not in data
        }
    return filled
