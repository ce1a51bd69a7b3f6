"""Options that several subcommands of `vitreous brain` share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.brain.activations import Extraction
from vitreous.brain.benchmarks import find_benchmark, load_recording
from vitreous.brain.readers import read_arrays, read_macaque, read_netcdf
from vitreous.brain.recordings import Recording
from vitreous.brain.stimuli import read_stimuli
from vitreous.errors import VitreousError
from vitreous.models import Classifier, load_model
from vitreous.results import Results, run_context


@dataclasses.dataclass
class ModelOptions:
    """Which model, and how its activations are taken."""

    model: Annotated[str, tyro.conf.Positional]
    """A timm name, a run folder, or a checkpoint that names its architecture."""
    checkpoint: Path | None = None
    """Weights to load into the architecture."""
    pretrained: bool = True
    """Take timm's weights; --no-pretrained scores the architecture with random weights."""
    seed: int = 0
    """Seed of random weights."""
    image_size: int | None = None
    """Input height and width in pixels; the model's own by default."""
    degrees_of_view: float = 8.0
    """Visual angle that the model is taken to see; Brain-Score's is 8."""
    batch_size: int = 32
    """Pictures in a forward pass."""
    storage: Literal["float32", "float16"] = "float32"
    """Type of the activation files."""
    device: str = "cpu"
    """Where the model and PLS run: cpu, cuda, …"""
    cache: Path = Path("brain_cache")
    """Folder of the activations; they are reused as long as nothing they depend on changes."""
    name: str = ""
    """How results call the model."""

    def load(self) -> Classifier:
        """Load the model."""
        import torch

        torch.manual_seed(self.seed)
        classifier = load_model(
            self.model,
            checkpoint=self.checkpoint,
            pretrained=self.pretrained,
            image_size=self.image_size,
        )
        if self.name:
            classifier.name = self.name
        return classifier

    def extraction(self) -> Extraction:
        """How activations are taken."""
        return Extraction(self.batch_size, self.degrees_of_view, self.storage, self.device)

    def results(self, classifier: Classifier, out: Path | None) -> tuple[Results, Path]:
        """The results file to add to: the run's own, else `brain_results/MODEL/results.json`."""
        folder = Path(self.model)
        if out is None and folder.is_dir():
            out = folder / "results.json"
        if out is None:
            safe = classifier.name.replace("/", "_").replace(":", "_")
            out = Path("brain_results") / safe / "results.json"
        out = out if out.suffix == ".json" else out / "results.json"
        results = Results.read(out) if out.exists() else Results(classifier.name)
        results.context = {**results.context, "brain": run_context(self.seed)}
        return results, out


@dataclasses.dataclass
class RecordingOptions:
    """Which recording."""

    assembly: str = ""
    """A named benchmark (MajajHong2015.public, FreemanZiemba2013.public), searched in Brain-Score's
    cache; a BrainIO NetCDF file; a .npy file (images × neuroids × repetitions); or the folder of
    the macaque V4 sessions."""
    session: str = ""
    """Session of the macaque V4 folder, for example 201025."""
    stimuli: Path | None = None
    """Folder or zip of the pictures, named by stimulus id."""
    table: Path | None = None
    """CSV with stimulus_id, a row for each picture of a .npy file."""
    neuroids: Path | None = None
    """CSV with a row for each neuroid of a .npy file, for example its region."""
    group: str | None = None
    """Coordinate or column that splits are stratified by, for example object_name."""
    stimulus_degrees: float | None = None
    """Visual angle of the pictures; without it they fill the model's view."""
    window: tuple[float, float] | None = None
    """Milliseconds over which time bins of a NetCDF file are averaged."""
    region: tuple[str, ...] = ()
    """Regions to score; all by default."""

    def read(self) -> Recording:
        """Read the recording."""
        if not self.assembly:
            raise VitreousError("give --assembly: a named benchmark, a .nc or .npy file, a folder")
        path = Path(self.assembly)
        if path.is_dir():
            return read_macaque(path, self.session)
        stem = path.stem if path.suffix in {".nc", ".npy"} else self.assembly
        known = find_benchmark(stem.rpartition("dicarlo.")[2].rpartition("movshon.")[2])
        if known is not None and path.suffix != ".npy":
            given = path if path.is_file() else None
            name = f"{known[0].name}.{known[1]}"
            return load_recording(name, assembly=given, stimuli=self.stimuli)
        if path.suffix == ".npy":
            return read_arrays(
                path,
                self.table,
                stimuli=self.stimuli,
                neuroids=self.neuroids,
                group=self.group,
                degrees=self.stimulus_degrees,
            )
        values = read_netcdf(path, self.window)
        images = None
        if self.stimuli is not None:
            images = read_stimuli(self.stimuli, self.stimulus_degrees)
        return Recording(path.stem, values, images, self.group)


def default_layers(classifier: Classifier, asked: tuple[str, ...]) -> list[str]:
    """The layers asked for, else the blocks of a Transformer."""
    if asked:
        return list(asked)
    names = {name for name, _ in classifier.net.named_modules()}
    if "blocks.0" in names:
        return ["blocks.*"]
    parts = [name for name, _ in classifier.net.named_children()]
    raise VitreousError(
        f"{classifier.name} has no 'blocks'; give --layers, for example {parts[0]}.* (its parts: "
        f"{', '.join(parts)})"
    )
