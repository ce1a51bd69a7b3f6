"""Place an exported plugin into the real brainscore-vision package and compare activations.

    uv venv -p 3.11 ENV
    uv pip install -p ENV brainscore-vision 'boto3>=1.34' 'timm>=1.0.20' safetensors PILLOW
    python examples/brainscore_plugin.py ours WORK            # with vitreous: export, activations
    ENV/bin/python examples/brainscore_plugin.py theirs WORK  # with brainscore-vision: compare

PILLOW is this environment's version (for example pillow==12.3.0): two versions of Pillow resize one
pixel in 150 differently, which moves activations by 0.3 %. The environments are two because
brainscore-vision pins NumPy below 2. Two models are exported: a
ViT, and a CrossViT, whose logits are the mean of two heads, which Brain-Score would not find by
itself. Their weights are random: what is compared is that both sides compute the same.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

MODELS = {
    "vitreous_vit": (
        "vit_tiny_patch16_224",
        {"V1": "blocks.1", "V2": "blocks.3", "V4": "blocks.6.norm1", "IT": "blocks.10"},
    ),
    "vitreous_crossvit": (
        "crossvit_9_240",
        {
            "V1": "blocks.0.blocks.0.0.norm1",
            "V2": "blocks.0.blocks.0.0.mlp.act",
            "V4": "blocks.1.blocks.1.0.norm2",
            "IT": "blocks.2.blocks.1.0.norm2",
        },
    ),
}


def ours(work: Path) -> None:
    """Write pictures, plugins, and our activations of them."""
    import numpy as np
    import torch
    from PIL import Image

    from vitreous import load_model
    from vitreous.brain.activations import extract
    from vitreous.brain.export import Plugin, export_plugin
    from vitreous.brain.stimuli import read_stimuli

    generator = np.random.default_rng(0)
    files = work / "pictures"
    files.mkdir(parents=True, exist_ok=True)
    for index, shape in enumerate([(256, 256), (180, 320), (300, 200), (224, 224)]):
        coarse = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
        image.save(files / f"{index}.png")
    stimuli = read_stimuli(files)
    for identifier, (name, layers) in MODELS.items():
        torch.manual_seed(0)
        model = load_model(name, pretrained=False)
        shutil.rmtree(work / "models" / identifier, ignore_errors=True)
        print(export_plugin(model, Plugin(identifier, layers), work))
        found = extract(model, stimuli, sorted(set(layers.values())), work / "cache")
        images = torch.stack([_input(model, stimuli, i) for i in range(len(stimuli))])
        with torch.inference_mode():
            logits = model(images).numpy()
        np.savez(work / f"{identifier}.npz", logits=logits, **found)
        (work / f"{identifier}.json").write_text(json.dumps(layers))


def _input(model, stimuli, index):
    from vitreous.brain.activations import prepare

    return prepare(stimuli.open(index), model, None, 8.0)


def theirs(work: Path) -> None:
    """Load the plugins through brainscore-vision and compare."""
    os.environ["BS_INSTALL_DEPENDENCIES"] = "no"
    os.environ["RESULTCACHING_DISABLE"] = "1"
    import brainscore_vision
    import numpy as np

    images = sorted(str(path) for path in (work / "pictures").glob("*.png"))
    folder = Path(brainscore_vision.__file__).parent / "models"
    for identifier in MODELS:
        shutil.rmtree(folder / identifier, ignore_errors=True)
        shutil.copytree(work / "models" / identifier, folder / identifier)
        model = brainscore_vision.load_model(identifier)
        assert identifier in brainscore_vision.model_registry, "not in the registry"
        layers = json.loads((work / f"{identifier}.json").read_text())
        mapped = dict(model.layer_model._layer_model.region_layer_map)
        assert mapped == layers, f"the layer map is {mapped}"
        expected = np.load(work / f"{identifier}.npz")
        for name in [*sorted(set(layers.values())), "logits"]:
            found = model.activations_model(images, layers=[name], stimuli_identifier=False)
            order = [images.index(str(path)) for path in found["stimulus_path"].values]
            reference = expected[name][order]
            assert found.shape == reference.shape, (name, found.shape, reference.shape)
            difference = np.abs(found.values - reference).max() / np.abs(reference).max()
            print(
                f"{identifier} {name} {found.shape}: largest relative difference {difference:.1e}"
            )
            assert difference < 1e-4, name
        print(f"{identifier}: found in the registry, activations equal")


if __name__ == "__main__":
    {"ours": ours, "theirs": theirs}[sys.argv[1]](Path(sys.argv[2]).resolve())
