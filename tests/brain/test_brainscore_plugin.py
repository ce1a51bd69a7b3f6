"""The plugin for Brain-Score: what it computes, and what is refused before it is written."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous import load_model
from vitreous.brain import activations, stimuli
from vitreous.brain.export import Plugin, export_plugin
from vitreous.errors import VitreousError


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        values = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"p{index:02d}.png")
    return stimuli.read_stimuli(folder)


LAYERS = {"V1": "blocks.0", "V2": "blocks.0", "V4": "blocks.1", "IT": "blocks.2"}
CROSSVIT = {
    "V1": "blocks.0.blocks.0.0.norm1",
    "V2": "blocks.0.blocks.0.0.mlp.act",
    "V4": "blocks.1.blocks.1.0.norm2",
    "IT": "blocks.2.blocks.1.0.norm2",
}


@pytest.fixture
def brainscore(monkeypatch):
    """The few names of brainscore-vision that a plugin imports."""

    class Wrapper:
        def __init__(self, identifier, model, preprocessing):
            self.identifier, self.model, self.preprocessing = identifier, model, preprocessing

        def logits(self, paths):
            module, seen = self.model, []
            while module._modules:  # how Brain-Score finds the logits
                module = module._modules[next(reversed(module._modules))]
            module.register_forward_hook(lambda _, __, output: seen.append(output))
            with torch.inference_mode():
                self.model(torch.from_numpy(self.preprocessing(paths)))
            return seen[-1]

    root = types.ModuleType("brainscore_vision")
    root.model_registry = {}
    names = ("model_helpers", "model_helpers.activations", "model_helpers.activations.pytorch")
    modules = {n: types.ModuleType(f"brainscore_vision.{n}") for n in names}
    modules["model_helpers.activations.pytorch"].PytorchWrapper = Wrapper
    transformation = types.ModuleType("brainscore_vision.model_helpers.brain_transformation")
    transformation.ModelCommitment = lambda **given: types.SimpleNamespace(**given)
    monkeypatch.setitem(sys.modules, "brainscore_vision", root)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"brainscore_vision.{name}", module)
    monkeypatch.setitem(sys.modules, transformation.__name__, transformation)
    return root.model_registry


@pytest.mark.parametrize(
    ("name", "size", "layers"),
    [("vit_tiny_patch16_224", 32, LAYERS), ("crossvit_tiny_240", None, CROSSVIT)],
)
def test_exported_plugin_computes_the_same(name, size, layers, tmp_path, images, brainscore):
    model = load_model(name, pretrained=False, image_size=size)
    folder = export_plugin(model, Plugin("mine", layers), tmp_path)
    assert "model_registry['mine']" in (folder / "__init__.py").read_text()
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {
        *("__init__.py", "model.py", "test.py", "requirements.txt", "metadata.yaml"),
        *("model.safetensors", "region_layer_map/mine.json"),
    }
    spec = importlib.util.spec_from_file_location(
        f"plugin_{name}", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    plugin = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = plugin
    spec.loader.exec_module(plugin)
    commitment = brainscore["mine"]()
    assert commitment.behavioral_readout_layer == layers["IT"]
    prepared = [activations.prepare(images.open(i), model, None, 8) for i in range(3)]
    with torch.inference_mode():
        expected = model(torch.stack(prepared))
    logits = commitment.activations_model.logits(
        [str(images.dataset.images.images.path(i)) for i in range(3)]
    )
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": {**LAYERS, "V4": "blocks.99"}}, "unknown layer 'blocks.99'.*did you mean"),
        ({"layers": {"V1": "blocks.0"}}, "no layer for V2, V4, IT"),
        ({"identifier": "my model"}, "use letters, digits"),
        ({"layers": {**LAYERS, "V4": "blocks.0.attn.attn_drop"}}, "not used in the model's"),
    ],
)
def test_export_refuses_what_brainscore_would(change, message, tmp_path):
    model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=32)
    plugin = Plugin(**{"identifier": "mine", "layers": LAYERS, **change})
    with pytest.raises(VitreousError, match=message):
        export_plugin(model, plugin, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_export_wants_the_behaviour_tasks_head(tmp_path):
    options = {"pretrained": False, "image_size": 32, "num_classes": 10}
    model = load_model("vit_tiny_patch16_224", **options)
    with pytest.raises(VitreousError, match="head has 10 classes"):
        export_plugin(model, Plugin("mine", LAYERS), tmp_path)
    assert export_plugin(model, Plugin("mine", LAYERS, neural_only=True), tmp_path).is_dir()
    with pytest.raises(VitreousError, match="exists; remove it"):
        export_plugin(model, Plugin("mine", LAYERS, neural_only=True), tmp_path)
