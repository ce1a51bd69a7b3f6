"""See all of it, small and offline: a model learns a shortcut and is finetuned out of it.

Draws objects on backgrounds with a tag that gives the class away, teaches a small Vision
Transformer to rely on it, finetunes that model plainly, with relevance guidance, against attacks
and turns, and with all of it, measures every model and writes a card. At most five minutes on two
cores; interrupted, it goes on where it stopped.

Example:
    vitreous demo --out vitreous-demo
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from vitreous.commands.options import QuietOption, SeedOption
from vitreous.folders import claim_folder


@dataclasses.dataclass(kw_only=True)
class Command(SeedOption, QuietOption):
    """Settings of `vitreous demo`."""

    out: Path = Path("vitreous-demo")
    """Folder for models, results and the card."""
    masks: Literal["exact", "tokencut"] = "exact"
    """tokencut: beside the guided model, one guided by masks that TokenCut finds; needs the extra
    'masks'. It takes the place of the robust model."""
    quick: bool = False
    """Seconds instead of minutes: shows that everything works, its numbers mean nothing."""

    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make."""

    def run(self) -> None:
        """Run the demo and say where things are."""
        claim_folder(self.out, "demo", overwrite=self.overwrite)
        from vitreous.demo import QUICK, TOKENCUT, Demo, DemoPlan
        from vitreous.demo.words import results_table, summary

        plan = QUICK if self.quick else DemoPlan()
        if self.masks == "tokencut":
            plan = dataclasses.replace(plan, variants=TOKENCUT)
        card, models = Demo(self.out, self.seed, plan, self.quiet).run()
        print(f"{results_table(models)}\n\n{summary(models)}\n")
        print(f"models and results: {self.out}\ncard: {card}")
