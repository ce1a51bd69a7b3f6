"""What i2n needs beside the model: human trials, their images, and images for the readout."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vitreous.brain.behaviour import Trials
from vitreous.brain.benchmarks import benchmark_file, benchmark_stimuli, find_benchmark
from vitreous.brain.readers import find_in_cache, read_columns, read_table
from vitreous.brain.stimuli import Stimuli, read_stimuli
from vitreous.errors import VitreousError, nearest

# Brain-Score fits the readout on the public images, also for the private trials.
FITTING = "public"
LABELS = ("image_label", "truth", "sample_obj", "object_name")
COLUMNS: dict[str, tuple[str, ...]] = {
    "stimulus_id": ("stimulus_id", "image_id"),
    "truth": ("truth", "sample_obj"),
    "distractor": ("distractor", "dist_obj"),
    "choice": ("choice",),
}


@dataclasses.dataclass(frozen=True)
class ChoiceTask:
    """Human choices, with what a model needs to make the same ones.

    Attributes:
        name: What results call it.
        trials: Two-choice trials of people.
        stimuli: The images of the trials.
        fitting: Images that the readout is fitted on.
        labels: Object of each of those.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 8)).save(folder / "a.png")
        >>> images, one = read_stimuli(folder), np.array(["a"])
        >>> trials = Trials(one, np.array(["bear"]), np.array(["dog"]), np.array(["bear"]))
        >>> task = ChoiceTask("mine", trials, stimuli=images, fitting=images, labels=("bear",))
        >>> task.stimuli.names
        ('a',)
    """

    name: str
    trials: Trials
    stimuli: Stimuli
    fitting: Stimuli
    labels: tuple[str, ...]


def find_choices(name: str, home: str | os.PathLike[str] | None = None) -> ChoiceTask | None:
    """Load a named benchmark of choices (`Rajalingham2018.private`) from Brain-Score's cache.

    Args:
        name: Of the benchmark; for the name of anything else None is returned.
        home: The cache folder, see `find_in_cache`.

    Raises:
        VitreousError: If the benchmark has no choices, or files are missing or damaged.

    Examples:
        >>> find_choices("my recordings") is None
        True
    """
    known = find_benchmark(name)
    if known is None:
        return None
    benchmark, access = known
    fitting = f"{benchmark.name}.{FITTING}"
    images = benchmark_stimuli(fitting, home)
    table = find_in_cache(benchmark.files[FITTING].table, f"the stimulus table of {fitting}", home)
    labels = _column(read_table(table), "image_label", LABELS, table)
    full = f"{benchmark.name}.{access}"
    trials = load_trials(full, home=home)
    return ChoiceTask(full, trials, benchmark_stimuli(full, home), images, tuple(labels.tolist()))


def read_choices(
    trials: str | os.PathLike[str],
    stimuli: str | os.PathLike[str],
    fit_stimuli: str | os.PathLike[str],
    fit_table: str | os.PathLike[str],
    *,
    degrees: float = 8.0,
) -> ChoiceTask:
    """Read a task from files.

    Args:
        trials: NetCDF or CSV, see `read_trials`.
        stimuli: Folder or zip of the images of the trials.
        fit_stimuli: Folder or zip of the images that the readout is fitted on.
        fit_table: CSV with stimulus_id and image_label of those.
        degrees: Visual angle of all images.

    Raises:
        VitreousError: If files cannot be read or do not match.
    """
    table, people = Path(fit_table), read_trials(trials)
    columns = read_table(table)
    names = _column(columns, "stimulus_id", COLUMNS["stimulus_id"], table)
    labels = _column(columns, "image_label", LABELS, table)
    fitting = read_stimuli(fit_stimuli, degrees).select(names.tolist())
    seen = read_stimuli(stimuli, degrees)
    return ChoiceTask(Path(trials).stem, people, seen, fitting, tuple(labels.tolist()))


def load_trials(
    name: str = "Rajalingham2018.private",
    *,
    assembly: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Trials:
    """Load the human trials of Rajalingham2018: coordinates of a behavioural assembly.

    Examples:
        >>> try:
        ...     load_trials("MajajHong2015.public")
        ... except VitreousError as error:
        ...     print(error)
        'MajajHong2015.public' has no human trials; expected Rajalingham2018
    """
    known = find_benchmark(name)
    if known is None or known[0].regions:
        raise VitreousError(f"'{name}' has no human trials; expected Rajalingham2018")
    benchmark, access = known
    sha1 = benchmark.files[access].assembly
    return read_trials(benchmark_file(assembly, sha1, f"the trials of {name}", home))


def read_trials(path: str | os.PathLike[str]) -> Trials:
    """Read human two-choice trials from a NetCDF file or a CSV.

    The CSV has the columns stimulus_id, truth, distractor and choice, one row a trial.

    Raises:
        VitreousError: If columns are missing.
    """
    file = Path(path)
    columns = read_table(file) if file.suffix == ".csv" else read_columns(file)
    return Trials(*(_column(columns, name, names, file) for name, names in COLUMNS.items()))


def _column(
    columns: Mapping[str, Sequence[str] | np.ndarray], wanted: str, names: Sequence[str], file: Path
) -> np.ndarray:
    """The first column that has one of some names, as text."""
    for name in names:
        if name in columns:
            return np.asarray(columns[name]).astype(str)
    raise VitreousError(f"{file}: no column '{wanted}'; {nearest(wanted, columns)}")
