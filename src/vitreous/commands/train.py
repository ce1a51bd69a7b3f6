"""Train or finetune a model from a recipe; run again, it goes on where it stopped.

Example:
    vitreous train robust_vit/vit_base --data.images train/ --data.masks masks/ --out runs/guided

Any setting of the recipe is an option: --optimizer.lr 1e-6, --training.epochs 5,
--objectives.relevance.foreground 0. Several processes: accelerate launch -m vitreous.cli train …
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from vitreous.config import parse_overrides, to_yaml
from vitreous.training import list_recipes, load_recipe, train

TAKES_OVERRIDES = True


@dataclasses.dataclass
class Command:
    """Train from a recipe."""

    recipe: Annotated[str | None, tyro.conf.Positional] = None
    """Name of a recipe in the package, or a YAML file; without one, the names are listed."""

    out: Path | None = None
    """Run folder; runs/RECIPE where not given."""

    show: bool = False
    """Print the resolved recipe and stop."""

    quiet: bool = False
    """No progress bar."""

    overwrite: bool = False
    """Write to the run folder although it holds what vitreous did not make."""

    def run(self, overrides: list[str]) -> None:
        """Train, and say where the results are."""
        if self.recipe is None:
            print("\n".join(list_recipes()))
            return
        recipe = load_recipe(self.recipe, parse_overrides(overrides))
        if self.show:
            print(to_yaml(recipe), end="")
            return
        out = self.out or Path("runs") / Path(self.recipe).with_suffix("").name
        results = train(recipe, out, quiet=self.quiet, overwrite=self.overwrite)
        for record in results.records:
            moment = record.settings.get("moment", "")
            print(f"{moment:>6}  {record.metric:<32} {record.value:.4f}  (n = {record.n})")
        print(f"model, metrics, samples and results are in {out}")
