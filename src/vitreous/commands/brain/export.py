"""`vitreous brain export`: write a Brain-Score plugin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml

from vitreous.brain.export import Plugin, export_plugin
from vitreous.brain.records import read_choice
from vitreous.brain.score import published
from vitreous.commands.brain.options import LoadOptions
from vitreous.errors import VitreousError
from vitreous.models import Classifier


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
        layers = self._layers()
        classifier = self.load()
        plugin = Plugin(
            self.identifier or _identifier(self.model, classifier),
            layers,
            self.weights,
            self.degrees_of_view,
            self.neural_only,
            self.training_data or self._training_data(),
            self.notes,
        )
        folder = export_plugin(classifier, plugin, self.out)
        print(f"plugin: {folder} (its own tests pass, and it computes what the model computes)")

    def _layers(self) -> dict[str, str]:
        if sum(map(bool, (self.map, self.map_from, self.published_map))) != 1:
            raise VitreousError("give one of --map, --map-from and --published-map")
        if self.published_map:
            return dict(published()["layers"][self.published_map])
        if self.map_from is not None:
            chosen = read_choice(self.map_from)
            if not chosen:
                raise VitreousError(
                    f"{self.map_from} holds no choice of layers; let `vitreous brain layers` choose"
                )
            return {region: row["layer"] for region, row in chosen.items()}
        bad = [pair for pair in self.map if pair.count("=") != 1]
        if bad:
            raise VitreousError(f"--map '{bad[0]}': expected REGION=LAYER")
        return dict(pair.split("=") for pair in self.map)

    def _training_data(self) -> str:
        """What the model was trained on, as its run or its name says."""
        recipe = Path(self.model) / "recipe.yaml"
        if recipe.is_file():
            return training_data(yaml.safe_load(recipe.read_text("utf-8")))
        if self.checkpoint is not None or Path(self.model).exists():
            return ""
        if not self.pretrained:
            return "none: random weights"
        return f"that of timm's weights {self.model}"


def _section(recipe: Mapping[str, object], name: str) -> dict[str, object]:
    section = recipe.get(name)
    return section if isinstance(section, dict) else {}


def training_data(recipe: Mapping[str, object]) -> str:
    """Say in a line what a run was trained on: its images, and what it started from.

    Args:
        recipe: `recipe.yaml` of the run. Of paths the last two parts are taken: metadata is
            published, and the machine is nobody's concern.
    """
    data, model = _section(recipe, "data"), _section(recipe, "model")
    kind, images = data.get("name", ""), data.get("images") or data.get("root")
    text = f"{kind} ({'/'.join(Path(str(images)).parts[-2:])})" if images else str(kind)
    start = Path(str(model.get("checkpoint") or model.get("name", ""))).name
    scratch = not model.get("checkpoint") and model.get("pretrained") is False
    return f"{text}, from {'random weights' if scratch else start}" if start else text


def _identifier(model: str, classifier: Classifier) -> str:
    """The run's name, else the model's, in the characters that Brain-Score allows."""
    name = (
        Path(model).resolve().name if (Path(model) / "recipe.yaml").is_file() else classifier.name
    )
    allowed = [c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name]
    return "".join(allowed).strip("_")
