"""`vitreous brain export`: write a Brain-Score plugin."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.brain.export import Plugin, export_plugin
from vitreous.brain.score import published
from vitreous.errors import VitreousError
from vitreous.models import load_model
from vitreous.results import Results


@dataclasses.dataclass
class Export:
    """Write a complete Brain-Score plugin folder, after checking the model."""

    model: Annotated[str, tyro.conf.Positional]
    """A timm name, a run folder, or a checkpoint that names its architecture."""
    checkpoint: Path | None = None
    """Weights to load into the architecture."""
    pretrained: bool = True
    """Take timm's weights."""
    image_size: int | None = None
    """Input height and width in pixels; the model's own by default."""
    map: tuple[str, ...] = ()
    """Layers: V1=blocks.2 V2=blocks.3 V4=blocks.6 IT=blocks.10, and behaviour=LAYER if the readout
    is to read another layer than IT's."""
    map_from: Path | None = None
    """Take the layers of a results.json that `vitreous brain layers` or `score` wrote."""
    published_map: Literal["adversarial", "plain"] | None = None
    """Take the published layers of CrossViT-18†: of the adversarial models, or of the plain one."""
    identifier: str = ""
    """Name on Brain-Score; made from the model's name by default."""
    weights: str = "copy"
    """copy: into the folder; else a .safetensors path on the scoring machine, or a timm or hf_hub:
    name that is fetched there."""
    degrees_of_view: float = 8.0
    """Visual angle that the model is taken to see."""
    neural_only: bool = False
    """Allow a head that is not ImageNet's 1000 classes."""
    training_data: str = "ImageNet-1k"
    """For the metadata."""
    notes: str = ""
    """For the metadata."""
    out: Path = Path("submission")
    """Folder that gets models/IDENTIFIER/."""

    def run(self) -> None:
        """Check, write, and say where."""
        layers = self._layers()
        classifier = load_model(
            self.model,
            checkpoint=self.checkpoint,
            pretrained=self.pretrained,
            image_size=self.image_size,
        )
        allowed = [c if c.isascii() and c.isalnum() else "_" for c in classifier.name]
        plugin = Plugin(
            self.identifier or "".join(allowed).strip("_"),
            layers,
            self.weights,
            self.degrees_of_view,
            self.neural_only,
            self.training_data,
            self.notes,
        )
        print(f"plugin: {export_plugin(classifier, plugin, self.out)}")

    def _layers(self) -> dict[str, str]:
        if sum(map(bool, (self.map, self.map_from, self.published_map))) != 1:
            raise VitreousError("give one of --map, --map-from and --published-map")
        if self.published_map:
            return dict(published()["layers"][self.published_map])
        if self.map_from is not None:
            rows = Results.read(self.map_from).extra.get("brain", {}).get("regions", [])
            if not rows:
                raise VitreousError(f"{self.map_from} holds no brain scores")
            return {row["region"]: row["layer"] for row in rows}
        bad = [pair for pair in self.map if pair.count("=") != 1]
        if bad:
            raise VitreousError(f"--map '{bad[0]}': expected REGION=LAYER")
        return dict(pair.split("=") for pair in self.map)
