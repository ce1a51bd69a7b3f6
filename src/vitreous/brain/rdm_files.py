"""Dissimilarity matrices from files: NumPy, and the `.mat` files of the 92-image set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.data.images import save_image
from vitreous.data.npy import map_array
from vitreous.errors import VitreousError, require


def read_rdms(paths: Sequence[str | os.PathLike[str]]) -> dict[str, np.ndarray]:
    """Read dissimilarity matrices, by name.

    Args:
        paths: `.npy` files of one matrix (n × n) or several (k × n × n), or `.mat` files with
            structures that have the fields `RDM` and `name`, as the 92-image set of Kriegeskorte
            et al. 2008 has. Matrices of one name (two sessions, several people) are averaged.

    Raises:
        VitreousError: If a file cannot be read or holds no square matrix.
    """
    collected: dict[str, list[np.ndarray]] = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise VitreousError(f"no dissimilarity matrices at {path}")
        for name, matrix in _read(path):
            if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
                raise VitreousError(f"{path}: '{name}' is {matrix.shape}, expected a square matrix")
            collected.setdefault(name, []).append(matrix)
    return {name: np.mean(matrices, axis=0) for name, matrices in collected.items()}


def write_mat_images(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> list[Path]:
    """Write the images stored in the 92-image set's `.mat` file as PNG, in its order.

    Raises:
        VitreousError: If the file holds none.
    """
    structures = _load(Path(path)).get("stimuli_92objs")
    if structures is None:
        raise VitreousError(f"{path} has no 'stimuli_92objs'")
    target = Path(folder)
    return [
        save_image(np.ascontiguousarray(entry["image"]), target / f"{index:03d}.png")
        for index, entry in enumerate(structures.ravel())
    ]


def _read(path: Path) -> list[tuple[str, np.ndarray]]:
    if path.suffix == ".npy":
        values = np.array(map_array(path))
        several = values if values.ndim == 3 else values[None]
        names = (
            [path.stem] if len(several) == 1 else [f"{path.stem} {i}" for i in range(len(several))]
        )
        return list(zip(names, several))
    collected = []
    for key, values in _load(path).items():
        fields = values.dtype.names if isinstance(values, np.ndarray) else None
        if key.startswith("__") or not {"RDM", "name"} <= set(fields or ()):
            continue
        for entry in values.ravel():
            name = " ".join(str(np.asarray(entry["name"]).ravel()[0]).split("|")[0].split())
            collected.append((name, _square(np.asarray(entry["RDM"], dtype=np.float64))))
    if not collected:
        raise VitreousError(f"{path} holds no structure with the fields 'RDM' and 'name'")
    return collected


def _square(values: np.ndarray) -> np.ndarray:
    """Unfold the vector of an upper triangle, which MATLAB's `squareform` writes."""
    if values.ndim != 2 or 1 not in values.shape:
        return values
    size = round((1 + (1 + 8 * values.size) ** 0.5) / 2)
    if size * (size - 1) // 2 != values.size:
        return values
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size, 1)] = values.ravel()
    return matrix + matrix.T


def _load(path: Path) -> dict[str, Any]:
    io = require("scipy.io", "brain")
    try:
        return io.loadmat(path)
    except Exception as error:  # kinds of its own, and whatever its parser stumbles over
        raise VitreousError(f"{path} is not a MATLAB file that can be read: {error}") from error
