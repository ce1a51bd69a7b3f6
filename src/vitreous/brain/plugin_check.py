"""Run the tests of a Brain-Score plugin without Brain-Score, in a process of their own.

    python -P -B plugin_check.py FOLDER IMAGE OUTPUTS.npz

`brainscore_vision` cannot be installed beside this package (it pins NumPy below 2), so the few
names that a plugin imports are stood in for here, by what brainscore-vision 2.4 does: `load_model`
looks into `model_registry`, the wrapper resolves layers part by part, takes the module registered
last for the logits, and flattens what layers put out. The tests that the plugin ships are run
against that, then its outputs for one image are written, so that the caller can compare them with
those of the model that was exported. Nothing of this package is imported.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class Activations:
    """What the wrapper returns, an assembly in Brain-Score: presentations × neuroids."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Presentations, neuroids."""
        return self.values.shape


class PytorchWrapper:
    """Stands in for `brainscore_vision.model_helpers.activations.pytorch.PytorchWrapper`."""

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Callable[[Sequence[str]], np.ndarray],
        identifier: str = "",
    ):
        self.identifier = identifier
        self._model = model
        self._preprocessing = preprocessing
        self.image_size = 0

    def __call__(
        self,
        stimuli: Sequence[str],
        layers: Sequence[str],
        stimuli_identifier: str | bool | None = None,
    ) -> Activations:
        """Activations of layers for the images of some paths."""
        recorded: dict[str, np.ndarray] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
                recorded[name] = output.detach().cpu().numpy()

            return hook

        hooks = [self._layer(name).register_forward_hook(keep(name)) for name in layers]
        with torch.no_grad():
            self._model.eval()(torch.from_numpy(self._preprocessing(stimuli)))
        for hook in hooks:
            hook.remove()
        values = [recorded[name].reshape(len(stimuli), -1) for name in layers]
        return Activations(np.concatenate(values, axis=1))

    def _layer(self, name: str) -> nn.Module:
        module = self._model
        if name != "logits":
            return module.get_submodule(name)
        while children := list(module.children()):
            module = children[-1]
        return module


@dataclasses.dataclass
class ModelCommitment:
    """Stands in for `brainscore_vision.model_helpers.brain_transformation.ModelCommitment`."""

    identifier: str
    activations_model: PytorchWrapper
    layers: Sequence[str]
    behavioral_readout_layer: str | None = None
    region_layer_map: dict[str, str] | None = None
    visual_degrees: float = 8.0


def stand_in() -> dict[str, Callable[[], ModelCommitment]]:
    """Put the names that a plugin imports in place; returns the registry that it enters."""
    registry: dict[str, Callable[[], ModelCommitment]] = {}
    root = "brainscore_vision"
    names = {
        root: {"model_registry": registry, "load_model": lambda name: registry[name]()},
        f"{root}.model_helpers": {},
        f"{root}.model_helpers.activations": {},
        f"{root}.model_helpers.activations.pytorch": {"PytorchWrapper": PytorchWrapper},
        f"{root}.model_helpers.brain_transformation": {"ModelCommitment": ModelCommitment},
    }
    if importlib.util.find_spec("pytest") is None:
        mark = types.SimpleNamespace(travis_slow=lambda function: function)
        names["pytest"] = {"mark": mark}
    for name, values in names.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        sys.modules[name] = module
    return registry


def import_plugin(folder: Path) -> types.ModuleType:
    """Import a plugin's folder as the package `plugin`, and return its module of tests."""
    place = [str(folder)]
    spec = importlib.util.spec_from_file_location(
        "plugin", folder / "__init__.py", submodule_search_locations=place
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} is not a package")
    package = importlib.util.module_from_spec(spec)
    sys.modules["plugin"] = package
    spec.loader.exec_module(package)
    return importlib.import_module("plugin.test")


def run_tests(tests: types.ModuleType) -> int:
    """Call every test of a module, with a temporary folder where it asks for one."""
    functions = [f for name, f in vars(tests).items() if name.startswith("test_")]
    for function in functions:
        wants = function.__code__.co_varnames[: function.__code__.co_argcount]
        with tempfile.TemporaryDirectory() as folder:
            function(*([Path(folder)] if wants == ("tmp_path",) else []))
    return len(functions)


def main(folder: str, image: str, outputs: str) -> None:
    """Run the tests, and write layer → activations of one image."""
    registry = stand_in()
    tests = import_plugin(Path(folder))
    if run_tests(tests) == 0:
        raise SystemExit("the plugin has no tests")
    (commitment,) = (make() for make in registry.values())
    model = commitment.activations_model
    values = {name: model([image], [name]).values for name in [*commitment.layers, "logits"]}
    np.savez(outputs, allow_pickle=False, **values)


if __name__ == "__main__":
    main(*sys.argv[1:])
