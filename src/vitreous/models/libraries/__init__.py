"""Networks of other libraries than timm, by name and as they are written to a folder.

`torchvision:vit_b_16`, `open_clip:ViT-B-32/laion2b_s34b_b79k`, and `transformers:…` for a tower
under a head, as `save_model` writes it. One file a library; each says how its networks are built
from plain arguments, and what those of a given network are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from vitreous.errors import VitreousError
from vitreous.models.instances import Description
from vitreous.models.preprocessing import Architecture
from vitreous.models.timm_instances import timm_architecture
from vitreous.registry import Registry


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked of a library.

    Attributes:
        name: What stands after the prefix.
        arguments: `num_classes` and `img_size` where given, and the library's own.
        pretrained: Load the library's weights.
        state: Weights that will be loaded, whose head is the head; None where there are none.
        prompts: Sentences that become the classes.
    """

    name: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pretrained: bool = False
    state: Mapping[str, Tensor] | None = None
    prompts: tuple[str, ...] = ()

    def only(self, *known: str) -> dict[str, Any]:
        """The arguments, if the library knows them all.

        Raises:
            VitreousError: Names the one that it does not.
        """
        for key in self.arguments:
            if key not in known:
                raise VitreousError(
                    f"{self.name} takes no argument '{key}'; it takes {', '.join(known)}"
                )
        return dict(self.arguments)

    def without_text(self) -> None:
        """Refuse prompts where the network knows no text."""
        if self.prompts:
            raise VitreousError(
                f"{self.name} knows no text, so prompts cannot be its classes; give a CLIP or "
                "SigLIP model of transformers or open_clip"
            )


@dataclasses.dataclass(frozen=True)
class Built:
    """A network, and how it is built again.

    Attributes:
        net: The network.
        architecture: For `config.json`.
        description: Of its preprocessing, where its weights say more than the network does.
        new_head: The head is not in the weights, and starts at random.
    """

    net: nn.Module
    architecture: Architecture
    description: Description | None = None
    new_head: bool = False


class Library(Protocol):
    """A library of networks."""

    def build(self, wanted: Wanted) -> Built:
        """Build a network by name.

        Raises:
            VitreousError: For an unknown name, or weights that cannot be had.
        """
        ...

    def describe(self, net: nn.Module) -> Architecture | None:
        """What a network is built from; None where it is of another library, or not known."""
        ...


LIBRARIES: Registry[Library] = Registry("model library", "vitreous.models.libraries")


def library_of(name: str) -> str | None:
    """The library whose prefix a name has; None for timm's names and for paths."""
    prefix, colon, _ = name.partition(":")
    return prefix if colon and prefix in LIBRARIES else None


def build_network(name: str, wanted: Wanted) -> Built:
    """Build what a name with a library's prefix says; see `Library.build`."""
    prefix, _, rest = name.partition(":")
    return LIBRARIES[prefix].build(dataclasses.replace(wanted, name=rest))


def architecture_of(net: nn.Module) -> Architecture | None:
    """What a network that was given as it is can be built from again; None where not known."""
    described = (LIBRARIES[name].describe(net) for name in LIBRARIES)
    return next((known for known in described if known is not None), None) or timm_architecture(net)
