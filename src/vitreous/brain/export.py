"""A Brain-Score plugin folder from a classifier: checked first, then written as a whole."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import jinja2
import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from vitreous.brain.layers import find_layers, record_layers
from vitreous.brain.plugin_trial import check_weights, try_plugin
from vitreous.disk import writing
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.models.libraries import library_of
from vitreous.models.modes import evaluation_mode

REGIONS = ("V1", "V2", "V4", "IT")
BEHAVIOUR = "behaviour"
COPY = "copy"
IMAGENET_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Plugin:
    """What a plugin says about a model.

    Attributes:
        identifier: Its name on Brain-Score: letters, digits, `_` and `-`.
        layers: Region → layer for V1, V2, V4 and IT; `behaviour` for the readout, by default the
            layer of IT.
        weights: `copy` puts them into the folder; otherwise the path of a safetensors file, the
            same on the scoring machine, or a timm or `hf_hub:` name whose weights are fetched
            there. Both are compared with the model's.
        degrees: The model's field of view.
        neural_only: Allow a head that is not ImageNet's 1000 classes; tasks with labels then fail.
        training_data: What the model was trained on, for the metadata; left out where unknown.
        notes: Free text for the metadata.

    Examples:
        >>> layers = {"V1": "blocks.1", "V2": "blocks.3", "V4": "blocks.6", "IT": "blocks.10"}
        >>> plugin = Plugin("my_model", layers, training_data="ImageNet")
        >>> plugin.degrees, plugin.weights
        (8.0, 'copy')
    """

    identifier: str
    layers: Mapping[str, str]
    weights: str = COPY
    degrees: float = 8.0
    neural_only: bool = False
    training_data: str = ""
    notes: str = ""


def export_plugin(classifier: Classifier, plugin: Plugin, out: str | os.PathLike[str]) -> Path:
    """Check a model and write `OUT/models/<identifier>/`.

    The folder is built beside its place, its own tests are run against a stand-in for Brain-Score,
    what it computes is compared with the model, and only then does it appear, whole.

    Args:
        classifier: A model that timm can build again.
        plugin: Name, layers, weights.
        out: Folder that gets `models/<identifier>`.

    Returns:
        The plugin's folder.

    Raises:
        VitreousError: If the name is not allowed, a layer does not exist or puts out no tensor,
            the output is not one tensor, the head is not of 1000 classes, the folder exists, the
            named weights are not the model's, or the plugin's own tests fail.

    Examples:
        >>> import tempfile
        >>> import vitreous
        >>> settings = {"pretrained": False, "image_size": 32, "patch_size": 16, "depth": 1}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> layers = dict.fromkeys(("V1", "V2", "V4", "IT"), "blocks.7")
        >>> try:
        ...     export_plugin(model, Plugin("mine", layers), tempfile.mkdtemp())
        ... except VitreousError as error:
        ...     print(error)
        unknown layer 'blocks.7' of vit_tiny_patch16_224; did you mean 'blocks.0'?
    """
    layers = check_plugin(classifier, plugin)
    target = Path(out) / "models" / plugin.identifier
    if target.exists():
        raise VitreousError(f"{target} exists; remove it or choose another --out or --identifier")
    if plugin.weights != COPY:
        check_weights(classifier, plugin.weights)
    with (
        writing(target),
        tempfile.TemporaryDirectory(dir=_existing(target), prefix=".plugin-") as scratch,
    ):
        work = Path(scratch) / plugin.identifier
        work.mkdir()
        _write(classifier, plugin, layers, work)
        try_plugin(work, classifier, list(dict.fromkeys(layers.values())))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work, target)
    return target


def _existing(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def check_plugin(classifier: Classifier, plugin: Plugin) -> dict[str, str]:
    """Check everything that Brain-Score would stumble over; returns region → layer, complete."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", plugin.identifier):
        raise VitreousError(
            f"identifier '{plugin.identifier}': use letters, digits, _ and - (it names a module)"
        )
    built = classifier.architecture
    if built is None or library_of(built["architecture"]) is not None:
        raise VitreousError(
            f"{classifier.name} was not built by timm, as a plugin would build it again"
        )
    missing = [region for region in REGIONS if region not in plugin.layers]
    if missing:
        raise VitreousError(
            f"no layer for {', '.join(missing)}; Brain-Score scores all of {', '.join(REGIONS)}"
        )
    unknown = set(plugin.layers) - {*REGIONS, BEHAVIOUR}
    if unknown:
        raise VitreousError(f"unknown region '{sorted(unknown)[0]}' in the layer map")
    layers = dict(plugin.layers)
    layers.setdefault(BEHAVIOUR, layers["IT"])
    for layer in layers.values():
        find_layers(classifier, [layer])
    _check_outputs(classifier, plugin, sorted(set(layers.values())))
    return layers


def _check_outputs(classifier: Classifier, plugin: Plugin, layers: list[str]) -> None:
    height, width = classifier.preprocessing.size
    images = torch.rand(2, 3, height, width, device=classifier.mean.device)
    with (
        evaluation_mode(classifier),
        torch.inference_mode(),
        record_layers(classifier, layers) as recorded,
    ):
        output = classifier(images)
        unused = [layer for layer in layers if layer not in recorded]
    if unused:
        raise VitreousError(f"layer '{unused[0]}' is not used in the model's forward pass")
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise VitreousError(f"the output must be one tensor (B, classes), found {shape}")
    if output.shape[1] != IMAGENET_CLASSES and not plugin.neural_only:
        raise VitreousError(
            f"the head has {output.shape[1]} classes; Brain-Score's label tasks want "
            f"{IMAGENET_CLASSES}: give the model with its ImageNet head, or --neural-only"
        )


def last_module_is_the_output(net: nn.Module, images: Tensor) -> bool:
    """Whether the module registered last puts out the logits, as Brain-Score takes for granted."""
    module = net
    while children := list(module.children()):
        module = children[-1]
    seen: list[object] = []
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        with evaluation_mode(net), torch.inference_mode():
            output = net(images)
    finally:
        handle.remove()
    last = seen[-1] if seen else None
    return isinstance(last, Tensor) and last.shape == output.shape and torch.equal(last, output)


def _write(classifier: Classifier, plugin: Plugin, layers: dict[str, str], folder: Path) -> None:
    height, width = classifier.preprocessing.size
    images = torch.rand(1, 3, height, width, device=classifier.mean.device)
    architecture = classifier.architecture or {}
    by_name = plugin.weights != COPY and not plugin.weights.endswith(".safetensors")
    regions = {region: layers[region] for region in REGIONS}
    values = {
        "identifier": plugin.identifier,
        "architecture": plugin.weights if by_name else architecture["architecture"],
        "arguments": architecture["model_args"],
        "fetched": by_name,
        "weights_path": None
        if by_name or plugin.weights == COPY
        else str(Path(plugin.weights).resolve()),
        "size": (height, width),
        "interpolation": classifier.preprocessing.interpolation.upper(),
        "mean": _shortest(classifier.mean),
        "std": _shortest(classifier.std),
        "layers": list(dict.fromkeys([*regions.values(), layers[BEHAVIOUR]])),
        "readout": layers[BEHAVIOUR],
        "degrees": plugin.degrees,
        "logits_last": last_module_is_the_output(classifier.net, images),
        "classes": classifier.num_classes,
    }
    for name in ("__init__.py", "model.py", "test.py"):
        (folder / name).write_text(_template(name).render(values), encoding="utf-8")
    (folder / "requirements.txt").write_text("timm>=1.0.20\nsafetensors>=0.5\n", encoding="utf-8")
    (folder / "region_layer_map").mkdir()
    mapping = json.dumps(regions, indent=1) + "\n"
    (folder / "region_layer_map" / f"{plugin.identifier}.json").write_text(mapping, "utf-8")
    (folder / "metadata.yaml").write_text(_metadata(classifier, plugin), encoding="utf-8")
    if plugin.weights == COPY:
        state = classifier.net.state_dict()
        tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
        safetensors.torch.save_file(tensors, folder / "model.safetensors")


def _shortest(values: Tensor) -> tuple[float, ...]:
    """The shortest decimals that give the same single-precision numbers."""
    return tuple(float(str(value)) for value in values.flatten().cpu().numpy())


def _template(name: str) -> jinja2.Template:
    place = resources.files("vitreous.brain") / "templates" / f"{name}.jinja"
    environment = jinja2.Environment(
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters["python"] = repr
    return environment.from_string(place.read_text("utf-8"))


def _metadata(classifier: Classifier, plugin: Plugin) -> str:
    parameters = list(classifier.net.parameters())
    weighted = [m for m in classifier.net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    architecture = (classifier.architecture or {}).get("architecture")
    about = {
        "architecture": type(classifier.net).__name__,
        "model_family": str(architecture).split("_")[0],
        "total_parameter_count": sum(p.numel() for p in parameters),
        "trainable_parameter_count": sum(p.numel() for p in parameters if p.requires_grad),
        "total_layers": len(list(classifier.net.modules())),
        "trainable_layers": len(weighted),
        "model_size_mb": round(sum(p.numel() * p.element_size() for p in parameters) / 1e6, 1),
        "training_dataset": plugin.training_data or None,
        "task_specialization": "object recognition",
        "brainscore_link": None,
        "huggingface_link": None,
        "extra_notes": plugin.notes or f"timm architecture {architecture}",
        "runnable": True,
    }
    return yaml.safe_dump({"models": {plugin.identifier: about}}, sort_keys=False)
