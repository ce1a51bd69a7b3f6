"""Resizing, cropping and flipping."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from vitreous.data.images import INTERPOLATIONS
from vitreous.data.transforms.base import TRANSFORMS
from vitreous.data.transforms.window import Parameters, Window, WindowTransform
from vitreous.ranges import PIXELS, SHARE, above, at_least

Interpolation = Literal["bicubic", "bilinear", "nearest", "lanczos"]


class _Resize(WindowTransform):
    """Resize the image by one rule and the mask by another (torchvision fixes nearest)."""

    def __init__(self, size: list[int] | int, interpolation: str, mask: str):
        super().__init__()
        self.size = size
        self.interpolation, self.mask = INTERPOLATIONS[interpolation], INTERPOLATIONS[mask]

    def window(self, params: Parameters, width: int, height: int) -> Window:
        box = (0, 0, width, height)
        if not isinstance(self.size, int):
            return Window(box, (self.size[1], self.size[0]))
        short = min(width, height)
        return Window(box, (self.size * width // short, self.size * height // short))

    def transform(self, inpt: Tensor, params: Parameters) -> Tensor:
        size = [self.size] if isinstance(self.size, int) else self.size
        if isinstance(inpt, tv_tensors.Mask):
            plain = v2.functional.resize_image(inpt.float(), size, self.mask, antialias=False)
            return tv_tensors.Mask(plain)
        return v2.functional.resize(inpt, size, self.interpolation, antialias=True)


class _ResizedCrop(WindowTransform, v2.RandomResizedCrop):
    """torchvision's, which may take its box from a reduced image."""

    def window(self, params: Parameters, width: int, height: int) -> Window:
        box = (params["left"], params["top"], params["width"], params["height"])
        return Window(box, (self.size[1], self.size[0]))


@TRANSFORMS.register("resize")
@dataclasses.dataclass(frozen=True)
class Resize:
    """Resize to a fixed size, or the shorter side to a length.

    Attributes:
        size: Pixels.
        square: Resize to `size` × `size` whatever the shape; else the shorter side to `size`.
        interpolation: Of the image.
        mask_interpolation: Of the mask: `nearest` keeps it binary; RobustViT's published code
            uses `bilinear` without antialiasing, which leaves fractional edges.
    """

    size: Annotated[int, PIXELS] = 256
    square: bool = False
    interpolation: Interpolation = "bicubic"
    mask_interpolation: Interpolation = "nearest"

    def transform(self) -> v2.Transform:
        """Build the transform."""
        size = [self.size, self.size] if self.square else self.size
        return _Resize(size, self.interpolation, self.mask_interpolation)


@TRANSFORMS.register("center_crop")
@dataclasses.dataclass(frozen=True)
class CenterCrop:
    """Cut the centre.

    Attributes:
        size: Pixels of the square.
    """

    size: Annotated[int, PIXELS] = 224

    def transform(self) -> v2.Transform:
        """Build the transform."""
        return v2.CenterCrop(self.size)


@TRANSFORMS.register("random_crop")
@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Cut a random square of fixed size.

    Attributes:
        size: Pixels of the square.
        padding: Zero pixels added on each side first.
    """

    size: Annotated[int, PIXELS] = 224
    padding: Annotated[int, at_least(0, at_most=16384)] = 0

    def transform(self) -> v2.Transform:
        """Build the transform."""
        return v2.RandomCrop(self.size, padding=self.padding or None)


@TRANSFORMS.register("random_resized_crop")
@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """Cut a random part and resize it.

    Attributes:
        size: Pixels of the result.
        scale: Least and largest share of the area.
        ratio: Least and largest ratio of width to height.
        interpolation: Of the image; masks are resized by nearest.
    """

    size: Annotated[int, PIXELS] = 224
    scale: Annotated[tuple[float, float], above(0, at_most=1)] = (0.08, 1.0)
    ratio: Annotated[tuple[float, float], above(0)] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"

    def transform(self) -> v2.Transform:
        """Build the transform."""
        return _ResizedCrop(
            self.size, self.scale, self.ratio, INTERPOLATIONS[self.interpolation], antialias=True
        )


@TRANSFORMS.register("flip")
@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirror left and right at random.

    Attributes:
        p: Probability.
    """

    p: Annotated[float, SHARE] = 0.5

    def transform(self) -> v2.Transform:
        """Build the transform."""
        return v2.RandomHorizontalFlip(self.p)
