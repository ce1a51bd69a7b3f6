"""Recordings: an xarray assembly with its images, and the arrays that metrics take from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitreous.brain.checks import check_unique
from vitreous.brain.consistency import average_trials, internal_consistency
from vitreous.brain.score import Score
from vitreous.brain.stimuli import Stimuli
from vitreous.errors import VitreousError, nearest, require

if TYPE_CHECKING:
    import xarray

DIMENSIONS = ("presentation", "neuroid", "repetition")


@dataclasses.dataclass(frozen=True)
class Recording:
    """Responses of neurons to images.

    Attributes:
        name: What results call it.
        assembly: `xarray.DataArray`, presentation × neuroid or presentation × neuroid ×
            repetition (NaN where a trial is missing), with the coordinate `stimulus_id` on
            presentation, each once, and maybe `region` on neuroid.
        stimuli: The images, where they are at hand.
        group: Coordinate on presentation that splits are stratified by.
        source: Where it lies, which tells two recordings of one name apart; empty for a named
            benchmark.

    Examples:
        >>> cells = {"region": ["V4", "IT"]}
        >>> assembly = make_assembly(np.ones((3, 2)), ["a", "b", "c"], neuroid=cells)
        >>> recording = Recording("mine", assembly)
        >>> recording.regions, recording.select("IT").responses().shape
        (['IT', 'V4'], (3, 1))
    """

    name: str
    assembly: xarray.DataArray
    stimuli: Stimuli | None = None
    group: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        dims = tuple(self.assembly.dims)
        if dims not in (DIMENSIONS, DIMENSIONS[:2]):
            raise VitreousError(
                f"{self.name}: expected presentation × neuroid (× repetition), found "
                f"{' × '.join(map(str, dims))}"
            )
        if 0 in self.assembly.shape:
            sizes = " × ".join(map(str, self.assembly.shape))
            raise VitreousError(f"{self.name}: holds nothing, it is of {sizes} values")
        if "stimulus_id" not in self.assembly.coords:
            raise VitreousError(f"{self.name}: the assembly has no coordinate 'stimulus_id'")
        check_unique(self.names)
        if self.stimuli is not None:
            self.stimuli.select(self.names)
        if self.group is not None and self.group not in self.assembly.coords:
            names = [str(n) for n in self.assembly.coords]
            raise VitreousError(
                f"{self.name}: no coordinate '{self.group}' to stratify by; "
                f"{nearest(self.group, names)}"
            )

    @property
    def names(self) -> list[str]:
        """The stimulus id of each presentation."""
        return [str(value) for value in self.assembly["stimulus_id"].values]

    @property
    def regions(self) -> list[str]:
        """The regions that were recorded, sorted; one called like the recording if unknown."""
        if "region" not in self.assembly.coords:
            return [self.name]
        values = np.atleast_1d(self.assembly["region"].values)
        return sorted({str(value) for value in values})

    def select(self, region: str) -> Recording:
        """The neuroids of one region.

        Raises:
            VitreousError: If it was not recorded.
        """
        if region not in self.regions:
            raise VitreousError(
                f"{self.name} has no region '{region}'; {nearest(region, self.regions)}"
            )
        if "region" not in self.assembly.coords or self.assembly["region"].ndim == 0:
            return self
        chosen = np.flatnonzero(self.assembly["region"].values.astype(str) == region)
        return dataclasses.replace(self, assembly=self.assembly.isel(neuroid=chosen))

    def trials(self) -> np.ndarray | None:
        """Repetitions × images × neuroids, NaN where missing; None without repetitions."""
        if "repetition" not in self.assembly.dims or self.assembly.sizes["repetition"] < 2:
            return None
        return self.assembly.transpose("repetition", "presentation", "neuroid").values

    def responses(self) -> np.ndarray:
        """Images × neuroids, averaged over the repetitions that exist."""
        if "repetition" not in self.assembly.dims:
            return np.asarray(self.assembly.values, dtype=np.float64)
        return average_trials(self.assembly.transpose("repetition", ...).values)

    def groups(self) -> np.ndarray | None:
        """Labels for stratified splits, or None."""
        return None if self.group is None else self.assembly[self.group].values

    def ceiling(self) -> Score | None:
        """Internal consistency, or None without repetitions."""
        trials = self.trials()
        return None if trials is None else internal_consistency(trials)

    def images(self) -> Stimuli:
        """The images in the order of the presentations.

        Raises:
            VitreousError: If the recording was read without them.
        """
        if self.stimuli is None:
            raise VitreousError(f"{self.name} was read without its images; give --stimuli")
        return self.stimuli.select(self.names)


def make_assembly(
    responses: np.ndarray,
    stimulus_id: Sequence[str] | np.ndarray,
    presentation: Mapping[str, Sequence[str] | np.ndarray] | None = None,
    neuroid: Mapping[str, Sequence[str] | np.ndarray] | None = None,
) -> xarray.DataArray:
    """Make an assembly from arrays.

    Args:
        responses: images × neuroids, or images × neuroids × repetitions with NaN for missing.
        stimulus_id: Name of each image.
        presentation: More coordinates, one value an image.
        neuroid: Coordinates with one value a neuroid, for example `region`.

    Returns:
        An `xarray.DataArray`.

    Raises:
        VitreousError: If lengths do not match or a name occurs twice.

    Examples:
        >>> cells = {"region": ["V4", "IT"]}
        >>> assembly = make_assembly(np.ones((3, 2)), ["a", "b", "c"], neuroid=cells)
        >>> assembly.dims, assembly["region"].values.tolist()
        (('presentation', 'neuroid'), ['V4', 'IT'])
    """
    library = require("xarray", "brain")
    values = np.asarray(responses)
    if values.ndim not in (2, 3):
        raise VitreousError(
            f"responses: expected images × neuroids (× repetitions), found shape {values.shape}"
        )
    if len(stimulus_id) != len(values):
        raise VitreousError(
            f"images and responses do not match: {len(stimulus_id)} stimulus ids, "
            f"{len(values)} rows of responses"
        )
    check_unique(stimulus_id)
    coords: dict[str, tuple[str, np.ndarray]] = {
        "stimulus_id": ("presentation", np.asarray(stimulus_id).astype(str))
    }
    tables = (("presentation", presentation or {}, 0), ("neuroid", neuroid or {}, 1))
    for dimension, table, axis in tables:
        for name, column in table.items():
            if len(column) != values.shape[axis]:
                raise VitreousError(
                    f"coordinate '{name}': expected {values.shape[axis]} values, found "
                    f"{len(column)}"
                )
            coords[name] = (dimension, np.asarray(column))
    return library.DataArray(values, dims=DIMENSIONS[: values.ndim], coords=coords)


def gather_repetitions(assembly: xarray.DataArray) -> xarray.DataArray:
    """Turn repeated presentations into a repetition axis.

    Args:
        assembly: presentation × neuroid, where a stimulus occurs in several presentations that a
            coordinate `repetition` tells apart.

    Raises:
        VitreousError: If stimuli are repeated without such a coordinate, or one repetition of a
            stimulus occurs twice.
    """
    assembly = assembly.transpose("presentation", "neuroid")
    names = assembly["stimulus_id"].values.astype(str)
    unique, first, row = np.unique(names, return_index=True, return_inverse=True)
    if len(unique) == len(names):
        return assembly
    if "repetition" not in assembly.coords:
        check_unique(names)
    labels, column = np.unique(assembly["repetition"].values, return_inverse=True)
    if len({(int(r), int(c)) for r, c in zip(row, column)}) != len(names):
        raise VitreousError(
            "some stimulus_id occurs twice in one repetition: the assembly needs a coordinate "
            "'repetition' that tells its presentations apart"
        )
    order = np.argsort(first)  # stimuli in the order in which they first occur
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    values = np.full((len(unique), assembly.sizes["neuroid"], len(labels)), np.nan)
    values[place[row], :, column] = assembly.values
    kept = assembly.isel(presentation=first[order])
    presentation, neuroid = {}, {}
    for name, coordinate in kept.coords.items():
        if name in ("stimulus_id", "repetition", "presentation", "neuroid"):
            continue
        if coordinate.dims == ("presentation",):
            presentation[str(name)] = coordinate.values
        elif coordinate.dims == ("neuroid",):
            neuroid[str(name)] = coordinate.values
    return make_assembly(values, kept["stimulus_id"].values, presentation, neuroid)
