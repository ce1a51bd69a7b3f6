"""Try a plugin before it appears: its weights, its own tests, and what it computes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitreous.brain import plugin_check
from vitreous.brain.activations import prepare
from vitreous.brain.layers import record_layers
from vitreous.errors import CheckpointError, VitreousError
from vitreous.models import Classifier, load_model
from vitreous.models.checkpoints import read_weights
from vitreous.models.modes import evaluation_mode

SECONDS = 900
# Of the largest activation: two processes add up in another order.
TOLERANCE = 1e-4


def check_weights(classifier: Classifier, weights: str) -> None:
    """Check that named weights exist, fit the architecture, and are those of the model.

    Args:
        classifier: The model, built by timm.
        weights: A safetensors file, or a timm or `hf_hub:` name.

    Raises:
        VitreousError: If they do not; says which tensor differs.
    """
    if weights.endswith(".safetensors"):
        named = read_weights(weights).state
    else:
        arguments = classifier.architecture["model_args"] if classifier.architecture else {}
        named = load_model(weights, pretrained=True, **arguments).net.state_dict()
    own = classifier.net.state_dict()
    missing, extra = [k for k in own if k not in named], [k for k in named if k not in own]
    if missing or extra:
        raise CheckpointError(
            f"--weights {weights} does not fit {classifier.name}: {len(missing)} of {len(own)} "
            f"tensors are missing and {len(extra)} are of something else, first "
            f"'{(missing + extra)[0]}'; write a state with vitreous.save_model, or take "
            "--weights copy"
        )
    for name, value in own.items():
        if named[name].shape != value.shape:
            raise CheckpointError(
                f"--weights {weights} does not fit {classifier.name}: {name} is "
                f"{tuple(named[name].shape)}, expected {tuple(value.shape)}"
            )
        if not _equal(named[name], value):
            raise CheckpointError(
                f"--weights {weights} are not the weights of {classifier.name}: {name} differs; "
                "name the file of this model, or take --weights copy"
            )


def _equal(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.cpu().to(second.dtype), second.cpu())


def try_plugin(folder: Path, classifier: Classifier, layers: list[str]) -> None:
    """Run a plugin's own tests in another process and compare what it computes.

    Args:
        folder: The plugin.
        classifier: The model that it was made of.
        layers: The layers that it names.

    Raises:
        VitreousError: If a test fails, or an activation is another than the model's.
    """
    with tempfile.TemporaryDirectory() as scratch:
        image, outputs = Path(scratch) / "image.png", Path(scratch) / "outputs.npz"
        pixels = np.random.default_rng(0).integers(0, 256, (180, 240, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(image)
        _run_tests(folder, image, outputs)
        with np.load(outputs) as written:
            theirs = dict(written)
    own = _outputs(classifier, Image.fromarray(pixels), layers)
    for name, values in own.items():
        scale = max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
        if theirs[name].shape != values.shape:
            raise VitreousError(
                f"the plugin's '{name}' has shape {theirs[name].shape}, the model's {values.shape}"
            )
        difference = float(np.abs(theirs[name] - values).max()) / scale
        if not difference < TOLERANCE:
            raise VitreousError(
                f"the plugin does not compute what {classifier.name} computes: '{name}' differs by "
                f"{difference:.1e} of its largest value"
            )


def _run_tests(folder: Path, image: Path, outputs: Path) -> None:
    script = str(plugin_check.__file__)
    command = [sys.executable, "-P", "-B", script, str(folder), str(image), str(outputs)]
    # Weights that are fetched by name are in the cache since they were compared.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VitreousError(f"the plugin's own tests did not end within {SECONDS} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise VitreousError(f"the plugin's own tests fail, so it was not written: {last}")


def _outputs(
    classifier: Classifier, image: Image.Image, layers: list[str]
) -> dict[str, np.ndarray]:
    """The model's own activations of the image: layer → 1 × units, and `logits`."""
    prepared = prepare(image, classifier, None, 8.0)[None].to(classifier.device)
    with (
        evaluation_mode(classifier),
        torch.inference_mode(),
        record_layers(classifier, layers) as recorded,
    ):
        logits = classifier(prepared)
        values = {**recorded, "logits": logits}
        return {name: values[name].float().cpu().numpy() for name in [*layers, "logits"]}
