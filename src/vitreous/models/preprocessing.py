"""How an image file becomes a model's input."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypedDict


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes the model's input, before normalisation.

    Attributes:
        size: Height and width in pixels.
        crop_ratio: Share of the resized image that the centre crop keeps.
        interpolation: `bicubic`, `bilinear`, `nearest` or `lanczos`.
        crop_mode: `center` (resize the shorter side, crop the centre) or `squash`.
        decoding: `exact`, or `reduced`: a JPEG of at least twice the size that it is resized to is
            decoded at a half, a quarter or an eighth, which is faster and changes pixels; `whole`:
            the whole image is resized, not only what the crop shows, which gives timm's pixels to
            the last bit at twice the work (of `exact`, 7 of 100,000 bytes differ, by 2 at most).

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
    decoding: Literal["exact", "reduced", "whole"] = "exact"

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width, before the crop, of an image of the input's shape."""
        ratio = 1.0 if self.crop_mode == "squash" else self.crop_ratio
        return int(self.size[0] / ratio), int(self.size[1] / ratio)

    def described(self) -> dict[str, Any]:
        """The settings for records; exact decoding is not named."""
        settings = dataclasses.asdict(self)
        if self.decoding == "exact":
            del settings["decoding"]
        return settings


class Architecture(TypedDict):
    """What timm builds a network from: its name of the architecture, and arguments."""

    architecture: str
    model_args: dict[str, Any]
