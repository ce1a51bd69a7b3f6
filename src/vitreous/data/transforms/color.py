"""Colour."""

from __future__ import annotations

import dataclasses

from torchvision.transforms import v2

from vitreous.data.transforms.base import TRANSFORMS


@TRANSFORMS.register("grayscale")
@dataclasses.dataclass(frozen=True)
class Grayscale:
    """Take the colour away at random, keeping three equal channels.

    Attributes:
        p: Probability.
    """

    p: float = 0.25

    def transform(self) -> v2.Transform:
        """Build the transform."""
        return v2.RandomGrayscale(self.p)
