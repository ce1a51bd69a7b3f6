"""Readers of recordings: BrainIO's NetCDF files, NumPy with CSV, and the macaque V4 sessions."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.brain.recordings import Recording, gather_repetitions, make_assembly
from vitreous.brain.stimuli import Stimuli, named_stimuli, read_stimuli
from vitreous.data.npy import map_array
from vitreous.data.readers.tables import read_rows
from vitreous.data.stores import ZipImages
from vitreous.errors import VitreousError, nearest, require
from vitreous.io import check_path

if TYPE_CHECKING:
    import xarray


def check_sha1(path: Path, expected: str) -> None:
    """Refuse a file whose SHA-1 is another than the published one."""
    total = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as opened:
        while piece := opened.read(2**20):
            total.update(piece)
    if total.hexdigest() != expected:
        raise VitreousError(
            f"{path} has SHA-1 {total.hexdigest()}, expected {expected}: the file is damaged or "
            "another version; fetch it again"
        )


def find_in_cache(sha1: str, what: str, home: str | os.PathLike[str] | None = None) -> Path:
    """Find a file in Brain-Score's cache folder by its SHA-1, and check it.

    Args:
        sha1: The published SHA-1, also the name of its folder.
        what: What messages call it.
        home: The cache; by default `$BRAINIO_HOME`, else `~/.brainio`.

    Raises:
        VitreousError: If it is not there or is damaged.
    """
    root = Path(home or os.environ.get("BRAINIO_HOME") or Path.home() / ".brainio")
    folder = root / sha1
    files = sorted(p for p in folder.glob("*") if p.is_file()) if folder.is_dir() else []
    if not files:
        raise VitreousError(
            f"{what} is not in {root} (no file in {sha1}/); load it once with brainscore-vision, "
            "or give its path"
        )
    check_sha1(files[0], sha1)
    return files[0]


def read_netcdf(
    path: str | os.PathLike[str], window: tuple[float, float] | None = None
) -> xarray.DataArray:
    """Read a BrainIO assembly: presentation × neuroid (× repetition).

    Args:
        path: The NetCDF file.
        window: Milliseconds over which time bins are averaged; without it there must be one bin.

    Raises:
        VitreousError: If it is missing, not NetCDF, or not a neural assembly.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "assembly.nc"
        >>> make_assembly(np.ones((2, 3)), ["a", "b"]).to_netcdf(file)
        >>> read_netcdf(file).sizes["neuroid"]
        3
    """
    file = Path(path)
    dataset = _open(file)
    assembly = _main_variable(dataset, file)
    if "stimulus_id" not in assembly.coords and "image_id" in assembly.coords:
        assembly = assembly.rename(image_id="stimulus_id")
    if "neuroid" in assembly.dims and "presentation" in assembly.dims:
        assembly = _average_time(assembly, window, file)
        if "repetition" in assembly.dims:
            return assembly.transpose("presentation", "neuroid", "repetition")
        if "stimulus_id" in assembly.coords:
            return gather_repetitions(assembly)
    raise VitreousError(
        f"{file}: expected presentation × neuroid with a stimulus_id, found "
        f"{' × '.join(map(str, assembly.dims))}"
    )


def read_columns(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the one-dimensional variables and coordinates of a NetCDF file, by name.

    The first data variable also stands under `choice`, where no other does: behavioural
    assemblies hold the choices as their values.

    Raises:
        VitreousError: If it is missing or not NetCDF.
    """
    dataset = _open(Path(path))
    columns = {str(n): v.values for n, v in dataset.variables.items() if v.ndim == 1}
    data = [str(n) for n in dataset.data_vars if dataset[n].ndim == 1]
    if data:
        columns.setdefault("choice", dataset[data[0]].values)
    return columns


def _open(file: Path) -> xarray.Dataset:
    library = require("xarray", "brain")
    check_path(file, "recording")
    if not file.is_file():
        raise VitreousError(f"no NetCDF file at {file}")
    try:
        with warnings.catch_warnings(action="ignore"), library.open_dataset(file) as opened:
            return opened.load()
    except (OSError, ValueError) as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise VitreousError(f"{file} is not a NetCDF file that can be read: {line}") from error


def _main_variable(dataset: xarray.Dataset, file: Path) -> xarray.DataArray:
    """The variable of most dimensions, with the one-dimensional ones as its coordinates."""
    if not dataset.data_vars:
        raise VitreousError(f"{file} holds no variable")
    name = max(dataset.data_vars, key=lambda n: (dataset[n].ndim, dataset[n].size))
    others = [n for n in dataset.data_vars if n != name and dataset[n].ndim == 1]
    return dataset.set_coords(others)[name]


def _average_time(
    assembly: xarray.DataArray, window: tuple[float, float] | None, file: Path
) -> xarray.DataArray:
    if "time_bin" not in assembly.dims:
        return assembly
    if window is not None and assembly.sizes["time_bin"] > 1:
        starts, ends = assembly["time_bin_start"].values, assembly["time_bin_end"].values
        inside = np.flatnonzero((starts >= window[0]) & (ends <= window[1]))
        if not len(inside):
            raise VitreousError(
                f"{file} has no time bin within {window[0]:g}–{window[1]:g} ms; it spans "
                f"{starts.min():g}–{ends.max():g} ms"
            )
        return assembly.isel(time_bin=inside).mean("time_bin")
    if assembly.sizes["time_bin"] > 1:
        raise VitreousError(
            f"{file} has {assembly.sizes['time_bin']} time bins; give the window to average over"
        )
    return assembly.isel(time_bin=0)


def read_stimulus_set(table: Path, archive: Path, degrees: float | None = None) -> Stimuli:
    """Read a BrainIO stimulus set: a CSV with `stimulus_id` and `filename`, and a zip."""
    rows = read_table(table)
    key = next((k for k in ("stimulus_id", "image_id") if k in rows), None)
    file = next((k for k in ("filename", "image_file_name") if k in rows), None)
    if key is None or file is None:
        raise VitreousError(
            f"{table}: expected columns stimulus_id and filename, found {', '.join(rows)}"
        )
    return named_stimuli(ZipImages(archive, rows[file]), rows[key], degrees)


def read_arrays(
    responses: str | os.PathLike[str],
    table: str | os.PathLike[str] | None = None,
    *,
    stimuli: str | os.PathLike[str] | None = None,
    neuroids: str | os.PathLike[str] | None = None,
    group: str | None = None,
    degrees: float | None = None,
) -> Recording:
    """Read responses from NumPy with CSV tables.

    Args:
        responses: `.npy`: images × neuroids, or images × neuroids × repetitions (NaN = missing).
        table: CSV with one row an image: `stimulus_id` and any other columns. Without it the
            rows are the sorted images.
        stimuli: Folder or zip of the images, named by their stem.
        neuroids: CSV with one row a neuroid, for example a column `region`.
        group: Column of the table that splits are stratified by.
        degrees: Visual angle of the images.

    Raises:
        VitreousError: If files cannot be read or do not match.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "responses.npy", np.ones((2, 3)))
        >>> lines = ["stimulus_id", "a", "b"]
        >>> _ = (folder / "images.csv").write_bytes(os.linesep.join(lines).encode())
        >>> recording = read_arrays(folder / "responses.npy", folder / "images.csv")
        >>> recording.names, recording.responses().shape
        (['a', 'b'], (2, 3))
    """
    file = Path(responses)
    values = _load_array(file)
    images = None if stimuli is None else read_stimuli(stimuli, degrees)
    columns: dict[str, list[str]] = {} if table is None else read_table(Path(table))
    if table is not None and "stimulus_id" not in columns:
        hint = nearest("stimulus_id", columns)
        raise VitreousError(f"{table}: no column 'stimulus_id'; {hint}")
    names = columns.pop("stimulus_id", None) or (None if images is None else images.names)
    if names is None:
        raise VitreousError(f"{file}: give a table with stimulus_id, or the images")
    cells = {} if neuroids is None else read_table(Path(neuroids))
    assembly = make_assembly(values, list(names), columns, cells)
    return Recording(file.stem, assembly, images, group)


def read_macaque(folder: str | os.PathLike[str], session: str) -> Recording:
    """Read a macaque V4 session of Cowley et al. 2023: `images_*.zip` and `responses_*.npy`.

    The raw repeats are taken where there are some, else the averages over repeats. The sorted
    images are the columns.

    Raises:
        VitreousError: If the session is not there.

    Examples:
        >>> import io, tempfile, zipfile
        >>> from PIL import Image
        >>> folder, picture = Path(tempfile.mkdtemp()), io.BytesIO()
        >>> Image.new("RGB", (8, 8)).save(picture, "PNG")
        >>> with zipfile.ZipFile(folder / "images_day1.zip", "w") as archive:
        ...     for name in ("a.png", "b.png"):
        ...         archive.writestr(name, picture.getvalue())
        >>> np.save(folder / "responses_avg_day1.npy", np.ones((5, 2)))  # neurons × images
        >>> read_macaque(folder, "day1").responses().shape
        (2, 5)
    """
    root = Path(folder)
    sessions = sorted(p.stem.removeprefix("images_") for p in root.glob("images_*.zip"))
    if not sessions:
        raise VitreousError(
            f"{root} is not the folder of the macaque V4 sessions: it holds no images_SESSION.zip"
        )
    if not session:
        raise VitreousError(f"{root}: give --session, one of {', '.join(sessions)}")
    if session not in sessions:
        raise VitreousError(f"no session '{session}' in {root}; {nearest(session, sessions)}")
    raw, average = (root / f"responses_{kind}_{session}.npy" for kind in ("raw", "avg"))
    values = _load_array(raw if raw.is_file() else average)
    values = values.transpose(1, 0, *range(2, values.ndim))
    images = read_stimuli(root / f"images_{session}.zip")
    cells = {"region": ["V4"] * values.shape[1]}
    return Recording(
        f"macaque-v4-{session}", make_assembly(values, images.names, None, cells), images
    )


def read_table(path: Path) -> dict[str, list[str]]:
    """Read a CSV as columns of text.

    Raises:
        VitreousError: If it cannot be read, has no rows, or a row of another length.
    """
    header, rows = read_rows(path)
    if not rows:
        raise VitreousError(f"{path} has no rows")
    return {name: [row[name] for _, row in rows] for name in header}


def _load_array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise VitreousError(f"no responses at {path}")
    return np.array(map_array(path))
