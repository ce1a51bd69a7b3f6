"""torchvision's Vision Transformers: `torchvision:vit_b_16`, or with a tag of its weights."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from vitreous.errors import VitreousError, nearest
from vitreous.models.hub import fetched
from vitreous.models.instances import Description
from vitreous.models.layout import Network
from vitreous.models.libraries import LIBRARIES, Built, Wanted
from vitreous.models.preprocessing import Architecture, Preprocessing
from vitreous.models.structure import rebuilt_by

CLASS = "VisionTransformer"
SHAPE = (
    "image_size",
    "patch_size",
    "num_layers",
    "num_heads",
    "hidden_dim",
    "mlp_dim",
    "dropout",
    "attention_dropout",
    "num_classes",
    "representation_size",
)


class Torchvision:
    """Networks by torchvision's name; what is stored is the class with its arguments."""

    def build(self, wanted: Wanted) -> Built:
        """Build one; see `Library`."""
        wanted.without_text()
        base, _, tag = wanted.name.partition("/")
        if base == CLASS:
            return self._stored(wanted)
        arguments = wanted.only("num_classes", "img_size", *SHAPE)
        names = [n for n in torchvision.models.list_models() if n.startswith("vit_")]
        if base not in names:
            raise VitreousError(f"unknown model 'torchvision:{base}'; {nearest(base, names)}")
        size = arguments.pop("img_size", None) or arguments.get("image_size")
        if wanted.pretrained:
            return self._pretrained(wanted, arguments, size)
        if tag:
            raise VitreousError(f"'{tag}' names weights, but none are to be loaded; leave it out")
        if size is not None:
            arguments["image_size"] = _side(size)
        return _built(torchvision.models.get_model(base, weights=None, **arguments))

    def describe(self, net: nn.Module) -> Architecture | None:
        """Its arguments, if they say everything of it."""
        if not type(net).__module__.startswith("torchvision.models.vision_transformer"):
            return None
        known: dict[str, Any] = {name: getattr(net, name, None) for name in SHAPE}
        blocks = net.get_submodule("encoder.layers")
        first = next(iter(blocks.children()))
        known["num_layers"], known["num_heads"] = len(list(blocks.children())), first.num_heads
        head = list(net.get_submodule("heads").modules())[-1]
        if not isinstance(head, nn.Linear):
            return None
        known["num_classes"] = head.out_features
        arguments = {name: value for name, value in known.items() if value is not None}
        same = rebuilt_by(torchvision.models.VisionTransformer, arguments, net)
        return {"architecture": f"torchvision:{CLASS}", "model_args": arguments} if same else None

    def _stored(self, wanted: Wanted) -> Built:
        arguments = wanted.only("img_size", *SHAPE)
        size = arguments.pop("img_size", None)
        if size is not None and _side(size) != arguments.get("image_size"):
            raise VitreousError(
                f"torchvision's networks keep their input of {arguments.get('image_size')} pixels; "
                f"{_side(size)} is another"
            )
        return _built(_network(arguments))

    def _pretrained(self, wanted: Wanted, arguments: dict[str, Any], size: Any) -> Built:
        base, _, tag = wanted.name.partition("/")
        tags = torchvision.models.get_model_weights(base)
        if tag and tag not in tags.__members__:
            raise VitreousError(
                f"unknown weights '{tag}' of {base}; {nearest(tag, list(tags.__members__))}"
            )
        weights = tags[tag or "DEFAULT"]
        classes = arguments.pop("num_classes", None)
        own = len(weights.meta["categories"])
        with fetched(wanted.name):
            net: Network = torchvision.models.get_model(base, weights=weights, **arguments)
        fresh = classes not in (None, own)
        if fresh:
            net.heads.head = nn.Linear(net.heads.head.in_features, classes)
            net.num_classes = classes
        view = weights.transforms()
        side = view.crop_size[0]
        if size is not None and _side(size) != side:
            raise VitreousError(
                f"the weights of {wanted.name} are for {side} pixels; {_side(size)} is another size"
            )
        seen = Preprocessing((side, side), side / view.resize_size[0], view.interpolation.value)
        return _built(net, Description(view.mean, view.std, seen), fresh)


def _network(arguments: dict[str, Any]) -> nn.Module:
    try:
        return torchvision.models.VisionTransformer(**arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise VitreousError(
            f"cannot build torchvision:{CLASS} with {arguments}: {error}"
        ) from error


def _built(net: nn.Module, description: Description | None = None, new_head: bool = False) -> Built:
    architecture = Torchvision().describe(net)
    assert architecture is not None, "torchvision's own networks are built from their arguments"
    return Built(net, architecture, description, new_head)


def _side(size: Any) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise VitreousError(f"torchvision's networks take squares, found {size}")
    return int(next(iter(sides)))


LIBRARIES.register("torchvision")(Torchvision())
