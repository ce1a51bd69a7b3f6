"""Colour."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from torchvision.transforms import v2

from vitreous.data.transforms.base import TRANSFORMS
from vitreous.ranges import SHARE


@TRANSFORMS.register("grayscale")
@dataclasses.dataclass(frozen=True)
class Grayscale:
    """Take the colour away at random, keeping three equal channels.

    Attributes:
        p: Probability.
    """

    p: Annotated[float, SHARE] = 0.25

    def transform(self) -> v2.Transform:
        """Build the transform."""
        return v2.RandomGrayscale(self.p)
