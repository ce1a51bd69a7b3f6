"""`vitreous brain similarity`: dissimilarity matrices of layers against given ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vitreous.commands.brain.options import ModelOptions
from vitreous.commands.options import quick_imports


@dataclasses.dataclass(kw_only=True)
class Similarity(ModelOptions):
    """Compare layers with dissimilarity matrices of brains: Spearman of the upper triangles.

    Example: vitreous brain similarity runs/x --stimuli images/ --rdms it.npy
    """

    stimuli: Path | None = None
    """Folder or zip of the images, in the order of the matrices; or the .mat file of the 92-image
    set, which holds them."""
    rdms: tuple[Path, ...] = ()
    """Dissimilarity matrices: .npy (n × n, or several), or .mat files of the 92-image set."""
    layers: tuple[str, ...] = ()
    """Layers by name or pattern; a Transformer's blocks by default."""

    def run(self) -> None:
        """Compare, print, and write results."""
        with quick_imports():
            from vitreous.commands.brain.comparing import compare_matrices

        compare_matrices(self)
