"""Brain-Score's named benchmarks with their settings, for the user's own copy of the files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from vitreous.brain.readers import (
    check_sha1,
    find_in_cache,
    read_netcdf,
    read_stimulus_set,
)
from vitreous.brain.recordings import Recording
from vitreous.brain.stimuli import Stimuli, read_stimuli
from vitreous.errors import VitreousError, nearest


@dataclasses.dataclass(frozen=True)
class Files:
    """SHA-1 of a benchmark's files.

    Attributes:
        assembly: NetCDF of the responses.
        table: CSV of the stimulus set.
        archive: Zip of the images.
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
        degrees: Visual angle of the images.
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
        stimuli: A folder or zip of the images named by stimulus id; by default the stimulus set
            in the cache.
        home: The cache folder, see `find_in_cache`.

    Raises:
        VitreousError: For another name, or files that are missing or damaged.

    Examples:
        >>> try:
        ...     load_recording("MajajHong2015.publik")
        ... except VitreousError as error:
        ...     print(error)
        MajajHong2015 has no 'publik'; did you mean 'public'?
    """
    known = find_benchmark(name)
    if known is None or not known[0].regions:
        neural = [b.name for b in _BENCHMARKS if b.regions]
        raise VitreousError(f"unknown neural benchmark '{name}'; {nearest(name, neural)}")
    benchmark, access = known
    sha1 = benchmark.files[access].assembly
    path = benchmark_file(assembly, sha1, f"the assembly of {name}", home)
    if stimuli is None:
        images = benchmark_stimuli(name, home)
    else:
        images = read_stimuli(stimuli, benchmark.degrees)
    values = read_netcdf(path, benchmark.window)
    return Recording(f"{benchmark.name}.{access}", values, images, benchmark.group)


def benchmark_stimuli(name: str, home: str | os.PathLike[str] | None = None) -> Stimuli:
    """The images of a named benchmark, from Brain-Score's cache.

    Raises:
        VitreousError: For another name, or files that are missing or damaged.
    """
    known = find_benchmark(name)
    if known is None:
        raise VitreousError(f"unknown benchmark '{name}'; {nearest(name, BENCHMARKS)}")
    benchmark, access = known
    files = benchmark.files[access]
    table = find_in_cache(files.table, f"the stimulus table of {name}", home)
    archive = find_in_cache(files.archive, f"the images of {name}", home)
    return read_stimulus_set(table, archive, benchmark.degrees)


def benchmark_file(
    given: str | os.PathLike[str] | None,
    sha1: str,
    what: str,
    home: str | os.PathLike[str] | None,
) -> Path:
    """A file of a benchmark: the one given, else that of the cache; its SHA-1 is checked."""
    if given is None:
        return find_in_cache(sha1, what, home)
    path = Path(given)
    if not path.is_file():
        raise VitreousError(f"{what}: no file at {path}")
    check_sha1(path, sha1)
    return path
