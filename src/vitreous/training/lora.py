"""LoRA (Hu et al. 2021) by `peft`: small matrices beside frozen ones are trained in their place.

What a run keeps is merged: the network that it began with, with other weights in the same places,
so that timm and every other command load it as any model.
"""

from __future__ import annotations

import copy

from torch import nn

from vitreous.errors import VitreousError, require
from vitreous.models import Classifier

EXTRA = "lora"


def add_adapters(net: nn.Module, rank: int, alpha: float, targets: tuple[str, ...]) -> None:
    """Put adapters beside linear layers, and freeze all else but the head.

    Args:
        net: The network; changed in place.
        rank: Of the matrices.
        alpha: What they add is multiplied by `alpha / rank`.
        targets: Last names of the layers, for example `qkv`.

    Raises:
        VitreousError: If `peft` is not installed, or no layer is called so.
    """
    peft = require("peft", EXTRA)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))
    try:
        peft.inject_adapter_in_model(config, net)
    except ValueError as error:
        raise VitreousError(
            f"training.lora_targets {', '.join(targets)}: {str(error).splitlines()[0]}"
        ) from error
    head = getattr(net, "get_classifier", nn.Identity)()
    for weight in head.parameters():
        weight.requires_grad_(True)


def merged(classifier: Classifier) -> Classifier:
    """A copy whose adapters, if it has any, are part of the weights that they stood beside."""
    plain = copy.deepcopy(classifier)
    for name, layer in list(plain.net.named_modules()):
        if hasattr(layer, "get_base_layer") and hasattr(layer, "merge"):
            layer.merge(safe_merge=True)
            parent, _, own = name.rpartition(".")
            setattr(plain.net.get_submodule(parent), own, layer.get_base_layer())
    for weight in plain.net.parameters():
        weight.requires_grad_(True)
    return plain
