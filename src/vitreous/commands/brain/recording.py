"""Options that say which recording, and how it is compared with features."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from vitreous.ranges import FINITE, SEED, above, at_least

MetricName = Literal["pls", "ridge", "ridge_cv", "linear", "one_to_one", "rdm", "cka"]


@dataclasses.dataclass(kw_only=True)
class RecordingOptions:
    """Which recording."""

    assembly: str = ""
    """A named benchmark (MajajHong2015.public, FreemanZiemba2013.public), searched in Brain-Score's
    cache; a BrainIO NetCDF file; a .npy file (images × neuroids × repetitions); or the folder of
    the macaque V4 sessions. A file needs --stimuli."""
    session: str = ""
    """Session of the macaque V4 folder, for example 201025."""
    stimuli: Path | None = None
    """Folder or zip of the images, named by stimulus id."""
    table: Path | None = None
    """CSV with stimulus_id, a row for each image of a .npy file."""
    neuroids: Path | None = None
    """CSV with a row for each neuroid of a .npy file, for example its region."""
    group: str | None = None
    """Coordinate or column that splits are stratified by, for example object_name."""
    stimulus_degrees: Annotated[float, above(0)] | None = None
    """Visual angle of the images; without it they fill the model's view."""
    window: Annotated[tuple[float, float], FINITE] | None = None
    """Milliseconds over which time bins of a NetCDF file are averaged."""
    region: tuple[str, ...] = ()
    """Regions to score; all by default."""


@dataclasses.dataclass(kw_only=True)
class MeasureOptions:
    """How features are compared with responses; what is not set is Brain-Score's."""

    metric: MetricName = "pls"
    """How features are compared with responses."""
    components: Annotated[int, at_least(1)] = 25
    """pls: number of components."""
    tolerance: Annotated[float, at_least(0)] = 1e-6
    """pls: squared change of the weights at which the search for a component stops; 1e-6 is
    scikit-learn's and so Brain-Score's, 0 solves to machine precision."""
    alpha: Annotated[tuple[float, ...], at_least(0)] = ()
    """ridge: penalty, 1 by default; of several the best by leave-one-out is taken in each split."""
    biased: bool = False
    """cka: take the biased estimator."""
    splits: Annotated[int, at_least(1)] | None = None
    """Number of random splits: 10 for regressions; rdm and cka compare all images at once, with
    this the held-out part of each split."""
    train_size: Annotated[float, above(0, below=1)] | None = None
    """Share of the images that train in a random split: 0.9; for rdm and cka the share that is left
    out: 0.1."""
    folds: Annotated[int, at_least(2)] | None = None
    """k-fold cross-validation instead of random splits."""
    split_seed: Annotated[int, SEED] = 1
    """Seed of the splits or folds."""
    threads: Annotated[int, at_least(1)] | None = None
    """Limit of BLAS threads."""
