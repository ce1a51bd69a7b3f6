"""`vitreous brain behaviour`: a model's choices against people's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from vitreous.commands.brain.options import ModelOptions
from vitreous.commands.options import quick_imports
from vitreous.ranges import above


@dataclasses.dataclass(kw_only=True)
class Behaviour(ModelOptions):
    """Compare choices with people's: i2n (--trials), or error consistency (--human).

    Example: vitreous brain behaviour runs/x --trials Rajalingham2018.private --layer blocks.11
    """

    stimuli: Path | None = None
    """Folder or zip of the images that people saw; not needed for a named benchmark."""
    trials: str = ""
    """i2n: a named benchmark (Rajalingham2018.private, Rajalingham2018.public), searched in
    Brain-Score's cache; or the human trials in a NetCDF file, or in a CSV with stimulus_id, truth,
    distractor, choice."""
    fit_stimuli: Path | None = None
    """i2n: images that the readout is fitted on."""
    fit_table: Path | None = None
    """i2n: CSV with stimulus_id and image_label of those images."""
    layer: str = ""
    """i2n: layer that the readout reads."""
    stimulus_degrees: Annotated[float, above(0)] = 8.0
    """i2n: visual angle of the images."""
    human: Path | None = None
    """Error consistency: folder with the CSV files of one model-vs-human experiment."""

    def run(self) -> None:
        """Compare, print, write results."""
        with quick_imports():
            from vitreous.commands.brain.choosing import compare_choices

        compare_choices(self)
