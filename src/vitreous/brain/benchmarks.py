"""Brain-Score's named benchmarks with their settings, for the user's own copy of the files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from vitreous.brain.behaviour import Trials
from vitreous.brain.readers import (
    check_sha1,
    find_in_cache,
    read_netcdf,
    read_stimulus_set,
    read_table,
)
from vitreous.brain.recordings import Recording
from vitreous.brain.stimuli import Stimuli, read_stimuli
from vitreous.errors import VitreousError, nearest, require


@dataclasses.dataclass(frozen=True)
class Files:
    """SHA-1 of a benchmark's files.

    Attributes:
        assembly: NetCDF of the responses.
        table: CSV of the stimulus set.
        archive: Zip of the pictures.
    """

    assembly: str
    table: str
    archive: str


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What Brain-Score fixes about a benchmark.

    Attributes:
        name: Its name there.
        regions: What was recorded; empty for behaviour.
        degrees: Visual angle of the pictures.
        group: Coordinate that splits are stratified by.
        window: Time bins averaged, in milliseconds.
        files: Files by access, `public` or `private`.
    """

    name: str
    regions: tuple[str, ...]
    degrees: float
    group: str | None
    window: tuple[float, float] | None
    files: dict[str, Files]


_BENCHMARKS = (
    Benchmark(
        "MajajHong2015",
        ("V4", "IT"),
        8.0,
        "object_name",
        None,
        {
            "public": Files(
                "13d28ca0ce88ee550b54db3004374ae19096e9b9",
                "5ca7a3da00d8e9c694a9cd725df5ba0ad6d735af",
                "8aa44e038d7b551efa8077467622f9d48d72e473",
            ),
            "private": Files(
                "7a40d16148d6f82939155f0bd976d310857fb156",
                "6ff4981722fa05feb73a2bd26bbbba8b50dc29a6",
                "d7b1ca1876dad87e15b0242b4c82c0203ff3cbd3",
            ),
        },
    ),
    Benchmark(
        "FreemanZiemba2013",
        ("V1", "V2"),
        4.0,
        "texture_type",
        (50.0, 200.0),
        {
            "public": Files(
                "761c08f796db4e342555cdb60eef23a4f19ead43",
                "194c9b301a4e3e9cff02481d4c19b39331d52660",
                "3a6fec1fc28c212882d6833e267ea8654d289611",
            ),
            "private": Files(
                "63f636fa2e2b51b47a676768a69b06ce95efdd8f",
                "65bee31483dd743ae2a19c6af03b9abe5f4d5a41",
                "daa724a4797b23929df59c18744923790edf71cb",
            ),
        },
    ),
    Benchmark(
        "Rajalingham2018",
        (),
        8.0,
        None,
        None,
        {
            "public": Files(
                "34c6a8b6f7c523589c1861e4123232e5f7c7df4c",
                "47884e17106a3be471d6481279cab33889b80850",
                "064f2955f98e63867755fee2e3ead8cddf6bfab8",
            ),
            "private": Files(
                "516f13793d1c5b72bb445bb4008448ce97a02d23",
                "ac38e8f7c08fa8294ed25a3bf84a6adb108bf3fc",
                "ccd39f7f9b8b4a92da06e3960d06225e46208593",
            ),
        },
    ),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _BENCHMARKS}


def find_benchmark(name: str) -> tuple[Benchmark, str] | None:
    """Parse `MajajHong2015.public`; the access is public if not given. None for other names."""
    base, _, access = name.partition(".")
    if base not in BENCHMARKS:
        return None
    benchmark = BENCHMARKS[base]
    access = access or "public"
    if access not in benchmark.files:
        raise VitreousError(f"{base} has no '{access}'; {nearest(access, benchmark.files)}")
    return benchmark, access


def load_recording(
    name: str,
    *,
    assembly: str | os.PathLike[str] | None = None,
    stimuli: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Recording:
    """Load a named neural benchmark from the user's copy.

    Args:
        name: For example `MajajHong2015.public`.
        assembly: The NetCDF file; by default Brain-Score's cache folder is searched. Its SHA-1 is
            checked in both cases.
        stimuli: A folder or zip of the pictures named by stimulus id; by default the stimulus set
            in the cache.
        home: The cache folder, see `find_in_cache`.

    Raises:
        VitreousError: For another name, or files that are missing or damaged.
    """
    found = find_benchmark(name)
    if found is None or not found[0].regions:
        neural = [b.name for b in _BENCHMARKS if b.regions]
        raise VitreousError(f"unknown neural benchmark '{name}'; {nearest(name, neural)}")
    benchmark, access = found
    files = benchmark.files[access]
    path = _file(assembly, files.assembly, f"the assembly of {name}", home)
    images = _images(stimuli, files, benchmark.degrees, name, home)
    values = read_netcdf(path, benchmark.window)
    return Recording(f"{benchmark.name}.{access}", values, images, benchmark.group)


def load_trials(
    name: str = "Rajalingham2018.private",
    *,
    assembly: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Trials:
    """Load the human trials of Rajalingham2018: coordinates of a behavioural assembly."""
    found = find_benchmark(name)
    if found is None or found[0].regions:
        raise VitreousError(f"'{name}' has no human trials; expected Rajalingham2018")
    benchmark, access = found
    path = _file(assembly, benchmark.files[access].assembly, f"the trials of {name}", home)
    return read_trials(path)


def read_trials(path: str | os.PathLike[str]) -> Trials:
    """Read human two-choice trials from a NetCDF file or a CSV.

    The CSV has the columns stimulus_id, truth, distractor and choice, one row a trial.

    Raises:
        VitreousError: If columns are missing.
    """
    file = Path(path)
    if file.suffix == ".csv":
        columns: dict[str, np.ndarray] = {k: np.array(v) for k, v in read_table(file).items()}
    else:
        xarray = require("xarray", "brain")
        try:
            with xarray.open_dataset(file) as opened:
                loaded = opened.load()
        except (OSError, ValueError) as error:
            raise VitreousError(f"{file} is not a NetCDF file that can be read") from error
        columns = {str(n): v.values for n, v in loaded.variables.items() if v.ndim == 1}
        data = [str(n) for n in loaded.data_vars if loaded[n].ndim == 1]
        if data and "choice" not in columns:
            columns["choice"] = loaded[data[0]].values
    aliases = {
        "stimulus_id": ("stimulus_id", "image_id"),
        "truth": ("truth", "sample_obj"),
        "distractor": ("distractor", "dist_obj"),
        "choice": ("choice",),
    }
    picked = []
    for wanted, names in aliases.items():
        name = next((n for n in names if n in columns), None)
        if name is None:
            raise VitreousError(f"{file}: no column '{wanted}'; {nearest(wanted, columns)}")
        picked.append(columns[name].astype(str))
    return Trials(*picked)


def _file(
    given: str | os.PathLike[str] | None,
    sha1: str,
    what: str,
    home: str | os.PathLike[str] | None,
) -> Path:
    if given is None:
        return find_in_cache(sha1, what, home)
    path = Path(given)
    if not path.is_file():
        raise VitreousError(f"{what}: no file at {path}")
    check_sha1(path, sha1)
    return path


def _images(
    given: str | os.PathLike[str] | None,
    files: Files,
    degrees: float,
    name: str,
    home: str | os.PathLike[str] | None,
) -> Stimuli:
    if given is not None:
        return read_stimuli(given, degrees)
    table = find_in_cache(files.table, f"the stimulus table of {name}", home)
    return read_stimulus_set(
        table, find_in_cache(files.archive, f"the pictures of {name}", home), degrees
    )
