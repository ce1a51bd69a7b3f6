"""One gradient step: FGSM with random start or carried over, and N-FGSM."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Annotated

from torch import Tensor

from vitreous.attacks.norms import project
from vitreous.ranges import at_least
from vitreous.training.adversaries.base import ADVERSARIES
from vitreous.training.adversaries.gradient import BoundedAdversary, carried


@ADVERSARIES.register("fgsm")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FGSM(BoundedAdversary):
    """Fast gradient sign method from a random start (Wong et al. 2020; the CrossViT paper's).

    δ ~ U(±ε); δ ← clip(δ + step · sign ∇δ loss(clip(x + δ)), ±ε); the image is clip(x + δ).

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        warmup: Share of the training during which radius and step grow from 0.
        loss: `cross_entropy` or `kl`.
        step_size: Length of the step; more than ε reaches the border from anywhere.
        random_start: Draw a start for each batch. Off, the last batch's perturbation is the
            start, row by row ("free" training's trick); a short batch uses the first rows.
    """

    step_size: Annotated[float, at_least(0)] = 2.5 / 255
    random_start: bool = True

    @property
    def carries_over(self) -> bool:
        """Whether the perturbation of a row is the start of the same row in the next batch."""
        return not self.random_start

    def start(self, images: Tensor, epsilon: float, state: dict[str, Tensor]) -> Tensor:
        """Anywhere in the ball, or what the last batch's rows ended with, in today's ball."""
        if self.random_start:
            return super().start(images, epsilon, state)
        return project(carried(state, images), epsilon, self.norm)

    def moves(self, epsilon: float, growth: float) -> Iterable[tuple[float, float]]:
        """One step, inside the ball."""
        return [(self.step_size * growth, epsilon)]


@ADVERSARIES.register("n_fgsm")
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyFGSM(BoundedAdversary):
    """N-FGSM (de Jorge et al. 2022): more noise, and no projection of the perturbation.

    η ~ U(±noise · ε); the image is clip(x + η + ε · sign ∇η loss(x + η)). It may leave the
    ball by the noise, which is what keeps single-step training from catastrophic overfitting.

    Attributes:
        epsilon: Length of the step, and unit of the noise.
        norm: `linf` or `l2`.
        warmup: Share of the training during which noise and step grow from 0.
        loss: `cross_entropy` or `kl`.
        noise: Radius of the noise in units of ε.
    """

    noise: Annotated[float, at_least(0)] = 2.0

    def start(self, images: Tensor, epsilon: float, state: dict[str, Tensor]) -> Tensor:
        """Noise of `noise` times the radius."""
        return super().start(images, self.noise * epsilon, state)

    def moves(self, epsilon: float, growth: float) -> Iterable[tuple[float, float]]:
        """One step of the radius' length, cut by nothing."""
        return [(epsilon, math.inf)]
