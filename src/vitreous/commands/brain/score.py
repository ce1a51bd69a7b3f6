"""`vitreous brain score` and `vitreous brain layers`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from vitreous.commands.brain.options import ModelOptions
from vitreous.commands.brain.recording import MeasureOptions, RecordingOptions
from vitreous.commands.options import quick_imports
from vitreous.ranges import at_least


@dataclasses.dataclass(kw_only=True)
class ScoringOptions(RecordingOptions, MeasureOptions, ModelOptions):
    """Which recording, how it is compared, and with which model."""

    rdms: bool = True
    """Store dissimilarity matrices of the layer and of the recording for the card."""


@dataclasses.dataclass(kw_only=True)
class ScoreRegions(ScoringOptions):
    """Score one layer a region against a recording: raw, its ceiling, and relative to it.

    Example: vitreous brain score runs/x --assembly MajajHong2015.public --layers V4=blocks.6
    """

    layers: tuple[str, ...] = ()
    """LAYER for all regions, or V4=LAYER IT=LAYER; by default what `vitreous brain layers` chose
    and stored in the results."""
    chosen_on: str = ""
    """Name of the recording on which you chose the layers, where it was not `brain layers` that
    did; stored with the score."""

    def run(self) -> None:
        """Score, print, and write results."""
        with quick_imports():
            from vitreous.commands.brain.scoring import score_one_layer

        score_one_layer(self)


@dataclasses.dataclass(kw_only=True)
class Layers(ScoringOptions):
    """Score every layer, choose the best a region, and report it, on another recording if given.

    Example: vitreous brain layers runs/x --assembly macaque_v4/ --session 201025 --report-session
    210325
    """

    layers: tuple[str, ...] = ()
    """Layers by name or pattern: blocks.*, blocks.3.norm1, pixels; a Transformer's blocks by
    default."""
    pca_images: Path | None = None
    """Choose on principal components fitted on these images (Brain-Score: 1000 of ImageNet's
    validation set); the chosen layers are reported with all units."""
    pca_components: Annotated[int, at_least(1)] = 1000
    """How many principal components."""
    report_assembly: str = ""
    """Recording to report the chosen layers on; without it they are reported on the recording they
    were chosen on, which flatters them."""
    report_session: str = ""
    """Its session."""
    report_stimuli: Path | None = None
    """Its images."""
    report_table: Path | None = None
    """Its --table."""
    report_neuroids: Path | None = None
    """Its --neuroids."""

    def run(self) -> None:
        """Score, choose, report, plot."""
        with quick_imports():
            from vitreous.commands.brain.scoring import score_every_layer

        score_every_layer(self)
