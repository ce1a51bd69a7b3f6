"""`vitreous brain similarity`: dissimilarity matrices of layers against given ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vitreous.brain.activations import extract
from vitreous.brain.rdm_files import read_rdms, write_mat_images
from vitreous.brain.scoring import add_rdms
from vitreous.brain.similarity import compare_rdms, rdm
from vitreous.brain.stimuli import Stimuli, read_stimuli
from vitreous.commands.brain.options import ModelOptions, default_layers
from vitreous.errors import VitreousError
from vitreous.results import Record


@dataclasses.dataclass
class Similarity(ModelOptions):
    """Compare layers with dissimilarity matrices of brains: Spearman of the upper triangles."""

    stimuli: Path | None = None
    """Folder or zip of the pictures, in the order of the matrices; or the .mat file of the 92-image
    set, which holds them."""
    rdms: tuple[Path, ...] = ()
    """Dissimilarity matrices: .npy (n × n, or several), or .mat files of the 92-image set."""
    layers: tuple[str, ...] = ()
    """Layers by name or pattern."""
    out: Path | None = None
    """results.json to add to."""

    def run(self) -> None:
        """Compare, print, and write results."""
        if self.stimuli is None or not self.rdms:
            raise VitreousError("give --stimuli (the pictures) and --rdms (the matrices)")
        classifier = self.load()
        stimuli = self._images(self.stimuli)
        targets = read_rdms(self.rdms)
        for name, matrix in targets.items():
            if len(matrix) != len(stimuli):
                raise VitreousError(
                    f"pictures and matrices do not match: {len(stimuli)} pictures, '{name}' is of "
                    f"{len(matrix)}"
                )
        layers = default_layers(classifier, self.layers)
        features = extract(classifier, stimuli, layers, self.cache, self.extraction())
        matrices = {layer: rdm(np.asarray(values)) for layer, values in features.items()}
        results, out = self.results(classifier, self.out)
        print("layer".ljust(32) + "".join(name[:24].rjust(26) for name in targets))
        table = results.extra.setdefault("depth", {})
        for name, target in targets.items():
            values = {layer: compare_rdms(m, target) for layer, m in matrices.items()}
            last = max(1, len(values) - 1)
            table[name] = [
                {"layer": layer, "depth": i / last, "score": value, "error": None}
                for i, (layer, value) in enumerate(values.items())
            ]
            best = max(values, key=lambda layer: values[layer])
            results.add(
                Record("brain", name, "rdm", value, len(target), None, {"layer": layer})
                for layer, value in values.items()
            )
            add_rdms(results, {name: target, f"{name}: {best}": matrices[best]})
        for i, layer in enumerate(matrices):
            cells = "".join(f"{table[name][i]['score']:26.3f}" for name in targets)
            print(layer.ljust(32) + cells)
        print(f"results: {results.write(out)}")

    def _images(self, place: Path) -> Stimuli:
        """Read the pictures; those inside a .mat file are written beside the activations."""
        if place.suffix != ".mat":
            return read_stimuli(place)
        write_mat_images(place, self.cache / "pictures92")
        return read_stimuli(self.cache / "pictures92")
