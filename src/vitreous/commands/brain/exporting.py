"""The work of `vitreous brain export`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vitreous.brain.export import Plugin, export_plugin
from vitreous.brain.records import read_choice
from vitreous.brain.score import published
from vitreous.commands.brain.running import load_plain
from vitreous.errors import VitreousError
from vitreous.models import Classifier

if TYPE_CHECKING:
    from vitreous.commands.brain.export import Export


def export_model(options: Export) -> None:
    """Check, write, and say where."""
    layers = _layers(options)
    classifier = load_plain(options)
    plugin = Plugin(
        options.identifier or _identifier(options.model, classifier),
        layers,
        options.weights,
        options.degrees_of_view,
        options.neural_only,
        options.training_data or _training_data(options),
        options.notes,
    )
    folder = export_plugin(classifier, plugin, options.out)
    print(f"plugin: {folder} (its own tests pass, and it computes what the model computes)")


def _layers(options: Export) -> dict[str, str]:
    if sum(map(bool, (options.map, options.map_from, options.published_map))) != 1:
        raise VitreousError("give one of --map, --map-from and --published-map")
    if options.published_map:
        return dict(published()["layers"][options.published_map])
    if options.map_from is not None:
        chosen = read_choice(options.map_from)
        if not chosen:
            raise VitreousError(
                f"{options.map_from} holds no choice of layers; let `vitreous brain layers` choose"
            )
        return {region: row["layer"] for region, row in chosen.items()}
    bad = [pair for pair in options.map if pair.count("=") != 1]
    if bad:
        raise VitreousError(f"--map '{bad[0]}': expected REGION=LAYER")
    return dict(pair.split("=") for pair in options.map)


def _training_data(options: Export) -> str:
    """What the model was trained on, as its run or its name says."""
    recipe = Path(options.model) / "recipe.yaml"
    if recipe.is_file():
        return training_data(yaml.safe_load(recipe.read_text("utf-8")))
    if options.checkpoint is not None or Path(options.model).exists():
        return ""
    if not options.pretrained:
        return "none: random weights"
    return f"that of timm's weights {options.model}"


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
