"""The box of an image that a view shows, cut out of what was decoded by its first transform."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from vitreous.data.decoding import Whole, scale_below, whole_of

Parameters = dict[str, Any]
"""What torchvision drew for a view."""
FILTERS = {
    v2.InterpolationMode.BICUBIC: Image.Resampling.BICUBIC,
    v2.InterpolationMode.BILINEAR: Image.Resampling.BILINEAR,
    v2.InterpolationMode.LANCZOS: Image.Resampling.LANCZOS,
}


@dataclasses.dataclass(frozen=True)
class Window:
    """A box of whole pixels of an image, and the size that it is resized to.

    Attributes:
        box: Left, top, width and height.
        size: Width and height, resized.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def scale(self) -> int:
        """The largest reduction that leaves the box as many pixels as are shown, both ways."""
        return scale_below(min(side / shown for side, shown in zip(self.box[2:], self.size)))


class WindowTransform(v2.Transform):
    """A transform that shows a box of an image, and can take it from a reduced one.

    Attributes:
        interpolation: Of the image, with antialiasing.
    """

    interpolation: v2.InterpolationMode

    @abc.abstractmethod
    def window(self, params: Parameters, width: int, height: int) -> Window:
        """What is shown of an image of a size, by the parameters that were drawn."""

    def reduction(self, width: int, height: int) -> int:
        """How far an image of a size may be reduced; draws as the view itself will."""
        if self.interpolation not in FILTERS:
            return 1  # single pixels are shown, not what they are part of
        size = tv_tensors.Mask(torch.empty(()).expand(1, height, width))
        return self.window(self.make_params([size]), width, height).scale

    def show(self, image: Image.Image, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Make an image that may be reduced, and its whole mask (1, H, W), by one draw to a view.

        Returns:
            The image (3, h, w) in bytes and the mask (1, h, w), zeros where there is none.
        """
        whole = whole_of(image)
        given = torch.zeros(()).expand(1, whole.height, whole.width) if mask is None else mask
        params = self.make_params([tv_tensors.Mask(given)])
        window = self.window(params, whole.width, whole.height)
        shown = self._exact(image, window) if whole.scale == 1 else self._reduced(image, window)
        if mask is None:
            return shown, tv_tensors.Mask(torch.zeros(1, *shown.shape[1:]))
        return shown, self.transform(tv_tensors.Mask(mask), params)

    def _exact(self, image: Image.Image, window: Window) -> Tensor:
        left, top, width, height = window.box
        if (width, height) != image.size:
            image = image.crop((left, top, left + width, top + height))
        size = list(reversed(window.size))
        return F.resize(F.to_image(image), size, self.interpolation, antialias=True)

    def _reduced(self, image: Image.Image, window: Window) -> Tensor:
        """The same box, whose edges may lie within pixels; what is around it is not looked at."""
        whole: Whole = whole_of(image)
        left, top, right, bottom = whole.place(*window.box)
        x, y = math.floor(left), math.floor(top)
        part = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
        box = (left - x, top - y, right - x, bottom - y)
        return F.to_image(part.resize(window.size, FILTERS[self.interpolation], box))
