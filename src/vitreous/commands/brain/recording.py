"""Options that say which recording, and how it is compared with features."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from vitreous.brain.benchmarks import find_benchmark, load_recording
from vitreous.brain.measure import Measure
from vitreous.brain.readers import read_arrays, read_macaque, read_netcdf
from vitreous.brain.recordings import Recording
from vitreous.brain.similarity import LEAVE_OUT
from vitreous.brain.splits import Splits
from vitreous.brain.stimuli import read_stimuli
from vitreous.errors import VitreousError
from vitreous.io import check_path
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

    def read(self) -> Recording:
        """Read the recording; one that is no named benchmark says where it lies."""
        if not self.assembly:
            raise VitreousError("give --assembly: a named benchmark, a .nc or .npy file, a folder")
        check_path(self.assembly, "recording")
        path = Path(self.assembly)
        known = None if path.is_dir() else self._benchmark(path)
        return known or dataclasses.replace(self._own(path), source=str(path.resolve()))

    def _own(self, path: Path) -> Recording:
        if path.is_dir():
            return read_macaque(path, self.session)
        if path.suffix == ".npy":
            return read_arrays(
                path,
                self.table,
                stimuli=self.stimuli,
                neuroids=self.neuroids,
                group=self.group,
                degrees=self.stimulus_degrees,
            )
        return self._netcdf(path)

    def _benchmark(self, path: Path) -> Recording | None:
        """A named benchmark, from a file of its name or from Brain-Score's cache."""
        stem = path.stem if path.suffix == ".nc" else self.assembly
        known = find_benchmark(stem.rpartition("dicarlo.")[2].rpartition("movshon.")[2])
        if known is None:
            return None
        benchmark, access = known
        if not benchmark.regions:
            raise VitreousError(
                f"{benchmark.name} holds choices of people, no neurons: vitreous brain behaviour "
                f"MODEL --trials {benchmark.name}.{access} --layer LAYER"
            )
        given = path if path.is_file() else None
        return load_recording(f"{benchmark.name}.{access}", assembly=given, stimuli=self.stimuli)

    def _netcdf(self, path: Path) -> Recording:
        values = read_netcdf(path, self.window)
        if self.stimuli is None:
            raise VitreousError(f"{path} needs its images: give --stimuli, a folder or a zip")
        images = read_stimuli(self.stimuli, self.stimulus_degrees)
        return Recording(path.stem, values, images, self.group)


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

    def measure(self, device: str) -> Measure:
        """The metric with its settings.

        Raises:
            VitreousError: For an option that the metric does not have.
        """
        self._check()
        return Measure(
            metric=self.metric,
            components=self.components,
            tolerance=self.tolerance or None,
            alpha=self.alpha or (1.0,),
            unbiased=not self.biased,
            splits=self._splits(),
            device=device,
            threads=self.threads,
        )

    def _check(self) -> None:
        """Refuse what would have no effect."""
        given = {
            "--components": ("pls", self.components != 25),
            "--tolerance": ("pls", self.tolerance != 1e-6),
            "--alpha": ("ridge", bool(self.alpha)),
            "--biased": ("cka", self.biased),
        }
        for option, (metric, used) in given.items():
            if used and self.metric != metric:
                raise VitreousError(f"{option} is for --metric {metric}, not {self.metric}")
        if self.folds is not None and (self.splits is not None or self.train_size is not None):
            raise VitreousError("--folds holds out every image once: no --splits or --train-size")

    def _splits(self) -> Splits | None:
        if (self.splits, self.train_size, self.folds, self.split_seed) == (None, None, None, 1):
            return None
        usual = LEAVE_OUT if self.metric in ("rdm", "cka") else Splits()
        if self.folds is not None:
            return Splits(folds=self.folds, seed=self.split_seed)
        train = usual.train_size if usual.test_size is None else 1 - usual.test_size
        number = self.splits or usual.number
        return Splits(number, self.train_size or train, seed=self.split_seed)
