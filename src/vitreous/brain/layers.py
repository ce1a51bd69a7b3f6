"""Layers by name: find them, and record what they put out without leaving a trace in the model."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Generator, Sequence

import torch
from torch import Tensor, nn

from vitreous.errors import VitreousError, nearest
from vitreous.models import Classifier

PIXELS = "pixels"


def find_layers(classifier: Classifier, patterns: Sequence[str]) -> list[str]:
    """Names of the modules of a classifier's network that match, in the order of definition.

    Args:
        classifier: The model; names are those of `classifier.net`.
        patterns: Module names, with `*`, `?` and `[…]` as in file names; a `*` does not match a
            dot, so `blocks.*` gives the blocks and not their parts, and `blocks.**` gives all.
            `pixels` is the prepared image itself.

    Raises:
        VitreousError: If a pattern matches nothing; names the nearest layers.
    """
    names = [name for name, _ in classifier.net.named_modules() if name]
    wanted: set[str] = set()
    for pattern in patterns:
        if pattern == PIXELS:
            wanted.add(PIXELS)
            continue
        matching = [name for name in names if _matches(name, pattern)]
        if not matching:
            hint = nearest(pattern.replace("*", ""), names)
            raise VitreousError(f"unknown layer '{pattern}' of {classifier.name}; {hint}")
        wanted.update(matching)
    if not wanted:
        raise VitreousError("no layer was asked for; give names or patterns such as 'blocks.*'")
    return [name for name in [PIXELS, *names] if name in wanted]


def _matches(name: str, pattern: str) -> bool:
    if "**" in pattern:
        return fnmatch.fnmatchcase(name, pattern.replace("**", "*"))
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


@contextlib.contextmanager
def record_layers(classifier: Classifier, names: Sequence[str]) -> Generator[dict[str, Tensor]]:
    """Record the outputs of layers during forward passes inside the context.

    Yields:
        Layer → the output of the last pass as (B, units), detached. `pixels` is not recorded.

    Raises:
        VitreousError: For an unknown layer, or one that puts out no tensor.
    """
    modules = dict(classifier.net.named_modules())
    recorded: dict[str, Tensor] = {}
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def keep(name: str):
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, (tuple, list)) and len(output) == 1:
                output = output[0]
            if not isinstance(output, Tensor):
                raise VitreousError(
                    f"layer '{name}' puts out a {type(output).__name__}, not one tensor; choose a "
                    "layer inside it"
                )
            recorded[name] = output.detach().flatten(1)

        return hook

    try:
        for name in names:
            if name == PIXELS:
                continue
            if name not in modules:
                raise VitreousError(f"unknown layer '{name}'; {nearest(name, modules)}")
            handles.append(modules[name].register_forward_hook(keep(name)))
        yield recorded
    finally:
        for handle in handles:
            handle.remove()
        recorded.clear()
