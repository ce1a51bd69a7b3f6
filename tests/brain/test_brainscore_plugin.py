"""The plugin for Brain-Score: what it computes, and what is refused before it is written."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from vitreous import load_model
from vitreous.brain import activations, export, stimuli
from vitreous.brain.export import Plugin, export_plugin
from vitreous.cli import main
from vitreous.errors import VitreousError
from vitreous.models import save_model


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


@pytest.fixture
def small():
    torch.manual_seed(0)
    return load_model("vit_tiny_patch16_224", pretrained=False, image_size=32)


def test_named_weights_must_exist_fit_and_be_the_models(small, tmp_path):
    def refused(path, message):
        with pytest.raises(VitreousError, match=message):
            export_plugin(small, Plugin("mine", LAYERS, str(path)), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused(tmp_path / "none.safetensors", "no weights at")
    state = {k: v.contiguous() for k, v in small.net.state_dict().items()}
    file = tmp_path / "weights.safetensors"
    save_file({**state, "head.bias": state["head.bias"] + 1e-3}, file)
    refused(file, "are not the weights of .*: head.bias differs")
    save_file({k: v for k, v in state.items() if k != "norm.bias"}, file)
    refused(file, "1 of 152 tensors are missing .* first 'norm.bias'")
    save_file({**state, "head.bias": state["head.bias"][:10].contiguous()}, file)
    refused(file, r"head.bias is \(10,\), expected \(1000,\)")
    refused("vit_tiny_patch16_224.nothing", "unknown weights 'nothing'")
    save_file(state, file)
    folder = export_plugin(small, Plugin("mine", LAYERS, str(file)), tmp_path / "out")
    assert not (folder / "model.safetensors").exists()
    assert str(file.resolve()) in (folder / "model.py").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("np.float32(255)", "np.float32(256)"), "does not compute what .* computes: 'blocks.0'"),
        (
            ("**ARGUMENTS)\n    net.load", "**ARGUMENTS))\n    net.load"),
            "own tests fail.*SyntaxError",
        ),
        (("load_file(WEIGHTS)", "load_file('gone')"), "own tests fail.*(gone|No such file)"),
    ],
    ids=["other preprocessing", "no Python", "no weights"],
)
def test_a_plugin_that_does_not_work_never_appears(small, tmp_path, monkeypatch, change, message):
    write = export._write

    def broken(classifier, plugin, layers, folder):
        write(classifier, plugin, layers, folder)
        text = (folder / "model.py").read_text()
        assert change[0] in text
        (folder / "model.py").write_text(text.replace(*change))

    monkeypatch.setattr(export, "_write", broken)
    with pytest.raises(VitreousError, match=message):
        export_plugin(small, Plugin("mine", LAYERS), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_gives_its_name_and_its_data(small, tmp_path):
    run = save_model(small, tmp_path / "guided-3")
    recipe = {"model": {"name": "vit"}, "data": {"name": "folders", "images": "/a/b/photos"}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    layers = [f"{region}={layer}" for region, layer in LAYERS.items()]
    out = ["--out", str(tmp_path / "out")]
    assert main(["brain", "export", str(run), "--map", *layers, *out]) == 0
    about = yaml.safe_load((tmp_path / "out/models/guided-3/metadata.yaml").read_text())
    assert about["models"]["guided-3"]["training_dataset"] == "folders (b/photos), from vit"
