"""The work of `vitreous brain similarity`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.brain.activations import extract
from vitreous.brain.rdm_files import read_rdms, write_mat_images
from vitreous.brain.records import add_depth, add_rdms, similarity_record
from vitreous.brain.score import Score
from vitreous.brain.scoring import LayerScore, layer_depths
from vitreous.brain.similarity import compare_rdms, rdm
from vitreous.brain.stimuli import Stimuli, read_stimuli
from vitreous.commands.brain.running import default_layers, extraction, load_measured, write
from vitreous.errors import VitreousError
from vitreous.folders import claim_folder
from vitreous.results import Results

if TYPE_CHECKING:
    from vitreous.commands.brain.similarity import Similarity


def compare_matrices(options: Similarity) -> None:
    """Compare, print, and write results."""
    began = time.perf_counter()
    if options.stimuli is None or not options.rdms:
        raise VitreousError("give --stimuli (the images) and --rdms (the matrices)")
    targets = read_rdms(options.rdms)
    stimuli = _images(options, options.stimuli)
    for name, matrix in targets.items():
        if len(matrix) != len(stimuli):
            raise VitreousError(
                f"images and matrices do not match: {len(stimuli)} images, '{name}' is of "
                f"{len(matrix)}"
            )
    classifier = load_measured(options)
    layers = default_layers(classifier, options.layers)
    features = extract(classifier, stimuli, layers, options.cache, extraction(options))
    matrices = {layer: rdm(np.asarray(values)) for layer, values in features.items()}
    fresh = Results(classifier.name)
    for name, target in targets.items():
        compare_layers(fresh, name, target, matrices, degrees=options.degrees_of_view)
    write(options, "similarity", classifier, fresh, began)


def _images(options: Similarity, place: Path) -> Stimuli:
    """Read the images; those inside a .mat file are written beside the activations."""
    if place.suffix != ".mat":
        return read_stimuli(place)
    claim_folder(options.cache, "activations", overwrite=options.overwrite, option="--cache")
    write_mat_images(place, options.cache / "pictures92")
    return read_stimuli(options.cache / "pictures92")


def compare_layers(
    fresh: Results,
    name: str,
    target: np.ndarray,
    matrices: Mapping[str, np.ndarray],
    *,
    degrees: float = 8.0,
) -> None:
    """Compare the matrices of all layers with one of a brain; add to results, and print.

    Args:
        fresh: What is added to.
        name: Name of the target, for example a region.
        target: Its dissimilarity matrix.
        matrices: Layer → dissimilarity matrix over the same images.
        degrees: The model's field of view.
    """
    depths = layer_depths(list(matrices))
    rows = []
    for layer, matrix in matrices.items():
        value = compare_rdms(matrix, target)
        record = similarity_record(name, layer, matrix, target, value, degrees=degrees)
        fresh.add([record])
        rows.append(LayerScore(layer, depths[layer], Score(value, float("nan"), np.array([value]))))
        interval = (
            "" if record.ci95 is None else f", 95 % {record.ci95[0]:.3f}–{record.ci95[1]:.3f}"
        )
        print(f"{name[:40]} · {layer}: {value:.3f}{interval}")
    add_depth(fresh, {name: rows}, f"{len(target)} images", "rdm")
    best = max(rows, key=lambda row: row.score.score).layer
    add_rdms(fresh, {name: target, f"{name}: {best}": matrices[best]})
