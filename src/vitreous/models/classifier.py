"""`Classifier`: images in [0, 1] in, logits out, normalisation inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitreous.models import hugging_face
from vitreous.models.class_words import class_words
from vitreous.models.forward import forward_logits
from vitreous.models.heads import logit_count
from vitreous.models.preprocessing import Architecture, Preprocessing

HALF = (0.5, 0.5, 0.5)


class Classifier(nn.Module):
    """A network with its normalisation: the only kind of model that the rest of Vitreous sees.

    Args:
        net: A module from normalised images (B, 3, H, W) to logits (B, C).
        mean: Mean of each channel, in [0, 1].
        std: Standard deviation of each channel.
        name: How reports call it.
        preprocessing: How image files become inputs.
        class_names: C names; empty where unknown.
        architecture: timm's name and arguments that build `net`, where there are such; needed
            to save a folder that timm loads again.
        new_head: The head is not that of the weights, and started at random.

    Examples:
        >>> half = (0.5, 0.5, 0.5)
        >>> model = Classifier(nn.Flatten(), mean=half, std=half, class_names=["n04507155"])
        >>> model(torch.full((1, 3, 1, 1), 0.5)).tolist()
        [[0.0, 0.0, 0.0]]
        >>> model.class_name(0)
        'umbrella'
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float] = HALF,
        std: Sequence[float] = HALF,
        *,
        name: str = "",
        preprocessing: Preprocessing | None = None,
        class_names: Sequence[str] = (),
        architecture: Architecture | None = None,
        new_head: bool = False,
    ):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.name = name or type(net).__name__
        self.preprocessing = preprocessing or Preprocessing()
        self.class_names = list(class_names) or hugging_face.label_names(net)
        self.architecture = architecture
        self.new_head = new_head

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, H, W) in [0, 1]; returns logits (B, C)."""
        return forward_logits(self.net, self.normalized(images))

    def normalized(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] as the network takes them."""
        return (images - self.mean.to(images.dtype)) / self.std.to(images.dtype)

    @property
    def device(self) -> torch.device:
        """The device that the normalisation (and so the model) is on."""
        return self.mean.device

    @property
    def num_classes(self) -> int:
        """Number of logits, 0 for a network without a head."""
        return logit_count(self.net) or len(self.class_names)

    def class_name(self, index: int) -> str:
        """Name of a class in words, or its number where names are unknown."""
        known = index < len(self.class_names)
        return class_words(self.class_names[index]) if known else str(index)
