"""`vitreous brain export`: write a Brain-Score plugin."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from vitreous.commands.brain.options import LoadOptions
from vitreous.commands.options import quick_imports


@dataclasses.dataclass(kw_only=True)
class Export(LoadOptions):
    """Write a complete Brain-Score plugin folder, after checking the model and the plugin.

    Example: vitreous brain export runs/x --map V1=blocks.2 V2=blocks.3 V4=blocks.6 IT=blocks.10
    """

    map: tuple[str, ...] = ()
    """Layers: V1=blocks.2 V2=blocks.3 V4=blocks.6 IT=blocks.10, and behaviour=LAYER if the readout
    is to read another layer than IT's."""
    map_from: Path | None = None
    """Take the layers that `vitreous brain layers` chose, from this results.json."""
    published_map: Literal["adversarial", "plain"] | None = None
    """Take the published layers of CrossViT-18†: of the adversarial models, or of the plain one."""
    identifier: str = ""
    """Name on Brain-Score; the run's by default, else the model's."""
    weights: str = "copy"
    """copy: into the folder; else a .safetensors path, the same on the scoring machine, or a timm
    or hf_hub: name that is fetched there. Named weights must be those of the model."""
    neural_only: bool = False
    """Allow a head that is not ImageNet's 1000 classes."""
    training_data: str = ""
    """For the metadata; what the run's recipe or timm's name says by default."""
    notes: str = ""
    """For the metadata."""
    out: Path = Path("submission")
    """Folder that gets models/IDENTIFIER/."""

    def run(self) -> None:
        """Check, write, and say where."""
        with quick_imports():
            from vitreous.commands.brain.exporting import export_model

        export_model(self)
