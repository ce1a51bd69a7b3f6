"""How a picture file becomes a model's input."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a picture file becomes the model's input, before normalisation.

    Attributes:
        size: Height and width in pixels.
        crop_ratio: Share of the resized picture that the centre crop keeps.
        interpolation: `bicubic`, `bilinear`, `nearest` or `lanczos`.
        crop_mode: `center` (resize the shorter side, crop the centre) or `squash`.

    Examples:
        >>> from PIL import Image
        >>> from vitreous.data.images import evaluation_transform
        >>> prepare = evaluation_transform(Preprocessing(size=(32, 32)))
        >>> prepare(Image.new("RGB", (80, 60), "red")).shape
        torch.Size([3, 32, 32])
    """

    size: tuple[int, int] = (224, 224)
    crop_ratio: float = 0.875
    interpolation: str = "bicubic"
    crop_mode: str = "center"


class Architecture(TypedDict):
    """What timm builds a network from: its name of the architecture, and arguments."""

    architecture: str
    model_args: dict[str, Any]
