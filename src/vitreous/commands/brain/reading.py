"""The recording that the options of `vitreous brain` name, and how it is compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vitreous.brain.benchmarks import find_benchmark, load_recording
from vitreous.brain.measure import Measure
from vitreous.brain.readers import read_arrays, read_macaque, read_netcdf
from vitreous.brain.recordings import Recording
from vitreous.brain.similarity import LEAVE_OUT
from vitreous.brain.splits import Splits
from vitreous.brain.stimuli import read_stimuli
from vitreous.commands.brain.recording import MeasureOptions, RecordingOptions
from vitreous.errors import VitreousError
from vitreous.io import check_path


def read_recording(options: RecordingOptions) -> Recording:
    """Read the recording; one that is no named benchmark says where it lies."""
    if not options.assembly:
        raise VitreousError("give --assembly: a named benchmark, a .nc or .npy file, a folder")
    check_path(options.assembly, "recording")
    path = Path(options.assembly)
    known = None if path.is_dir() else _benchmark(options, path)
    return known or dataclasses.replace(_own(options, path), source=str(path.resolve()))


def _own(options: RecordingOptions, path: Path) -> Recording:
    if path.is_dir():
        return read_macaque(path, options.session)
    if path.suffix == ".npy":
        return read_arrays(
            path,
            options.table,
            stimuli=options.stimuli,
            neuroids=options.neuroids,
            group=options.group,
            degrees=options.stimulus_degrees,
        )
    return _netcdf(options, path)


def _benchmark(options: RecordingOptions, path: Path) -> Recording | None:
    """A named benchmark, from a file of its name or from Brain-Score's cache."""
    stem = path.stem if path.suffix == ".nc" else options.assembly
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
    return load_recording(f"{benchmark.name}.{access}", assembly=given, stimuli=options.stimuli)


def _netcdf(options: RecordingOptions, path: Path) -> Recording:
    values = read_netcdf(path, options.window)
    if options.stimuli is None:
        raise VitreousError(f"{path} needs its images: give --stimuli, a folder or a zip")
    images = read_stimuli(options.stimuli, options.stimulus_degrees)
    return Recording(path.stem, values, images, options.group)


def measure_of(options: MeasureOptions, device: str) -> Measure:
    """The metric with its settings.

    Raises:
        VitreousError: For an option that the metric does not have.
    """
    _check(options)
    return Measure(
        metric=options.metric,
        components=options.components,
        tolerance=options.tolerance or None,
        alpha=options.alpha or (1.0,),
        unbiased=not options.biased,
        splits=_splits(options),
        device=device,
        threads=options.threads,
    )


def _check(options: MeasureOptions) -> None:
    """Refuse what would have no effect."""
    given = {
        "--components": ("pls", options.components != 25),
        "--tolerance": ("pls", options.tolerance != 1e-6),
        "--alpha": ("ridge", bool(options.alpha)),
        "--biased": ("cka", options.biased),
    }
    for option, (metric, used) in given.items():
        if used and options.metric != metric:
            raise VitreousError(f"{option} is for --metric {metric}, not {options.metric}")
    if options.folds is not None and (options.splits is not None or options.train_size is not None):
        raise VitreousError("--folds holds out every image once: no --splits or --train-size")


def _splits(options: MeasureOptions) -> Splits | None:
    if (options.splits, options.train_size, options.folds, options.split_seed) == (
        None,
        None,
        None,
        1,
    ):
        return None
    usual = LEAVE_OUT if options.metric in ("rdm", "cka") else Splits()
    if options.folds is not None:
        return Splits(folds=options.folds, seed=options.split_seed)
    train = usual.train_size if usual.test_size is None else 1 - usual.test_size
    number = options.splits or usual.number
    return Splits(number, options.train_size or train, seed=options.split_seed)
