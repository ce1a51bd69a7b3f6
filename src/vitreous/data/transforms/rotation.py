"""Turning: quarter turns, exact or as published, and rotation by any angle."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from vitreous.data.images import INTERPOLATIONS
from vitreous.data.rotation import quarter_turns
from vitreous.data.transforms.base import TRANSFORMS
from vitreous.data.transforms.geometry import Interpolation
from vitreous.ranges import FINITE, SHARE


class _QuarterTurn(v2.Transform):
    """Turn by 90° with a probability, then by 180° with a probability, counter-clockwise."""

    def __init__(self, legacy: bool, quarter: float, half: float):
        super().__init__()
        self.legacy, self.p_quarter, self.p_half = legacy, quarter, half

    def make_params(self, flat_inputs: list[object]) -> dict[str, list[int]]:
        quarter = int(torch.rand(()) < self.p_quarter)
        half = int(torch.rand(()) < self.p_half)
        return {"turns": [1] * quarter + [2] * half}

    def transform(self, inpt: Tensor, params: dict[str, list[int]]) -> Tensor:
        for turns in params["turns"]:
            if self.legacy:
                inpt = v2.functional.rotate(inpt, 90.0 * turns, expand=False, fill=[0.0])
            else:
                inpt = tv_tensors.wrap(quarter_turns(inpt, turns), like=inpt)
        return inpt


@TRANSFORMS.register("quarter_turn")
@dataclasses.dataclass(frozen=True)
class QuarterTurn:
    """Turn by 0, 90, 180 or 270 degrees: CrossViT Adv+Rot's view; uniform over the four.

    Attributes:
        mode: `exact` turns the whole image, so height and width change places; `legacy` keeps
            the canvas as the published code does: of an image of 341 × 256 pixels a quarter is
            black afterwards, and the ends are cut off.
        quarter: Probability of a turn by 90°.
        half: Probability of a further turn by 180°.
    """

    mode: Literal["exact", "legacy"] = "exact"
    quarter: Annotated[float, SHARE] = 0.5
    half: Annotated[float, SHARE] = 0.5

    def transform(self) -> v2.Transform:
        """Build the transform."""
        return _QuarterTurn(self.mode == "legacy", self.quarter, self.half)


@TRANSFORMS.register("rotation")
@dataclasses.dataclass(frozen=True)
class Rotation:
    """Rotate by a random angle around the centre; masks turn along, by nearest.

    Attributes:
        degrees: Least and largest angle, counter-clockwise.
        interpolation: Of the image: `nearest` or `bilinear`.
        expand: Enlarge the canvas so that nothing is cut off; the size then varies.
        fill: Value of the corners, in [0, 1].
    """

    degrees: Annotated[tuple[float, float], FINITE] = (-30.0, 30.0)
    interpolation: Interpolation = "bilinear"
    expand: bool = False
    fill: Annotated[float, SHARE] = 0.0

    def __post_init__(self) -> None:
        if self.degrees[0] > self.degrees[1]:
            raise ValueError(f"degrees: expected least and largest, found {list(self.degrees)}")
        if self.interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"interpolation: nearest or bilinear, found {self.interpolation}")

    def transform(self) -> v2.Transform:
        """Build the transform."""
        return v2.RandomRotation(
            list(self.degrees),
            INTERPOLATIONS[self.interpolation],
            self.expand,
            fill={tv_tensors.Image: self.fill * 255, tv_tensors.Mask: 0.0},
        )
