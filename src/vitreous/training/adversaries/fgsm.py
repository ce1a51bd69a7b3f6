"""One gradient step: FGSM with random start or carried over, and N-FGSM."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import torch
from torch import Tensor, nn

from vitreous.attacks.gradient import ascend
from vitreous.attacks.norms import project, random_start
from vitreous.ranges import at_least
from vitreous.training.adversaries.base import ADVERSARIES
from vitreous.training.adversaries.gradient import BoundedAdversary, image_gradient

CARRIED = "perturbation"


@ADVERSARIES.register("fgsm")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FGSM(BoundedAdversary):
    """Fast gradient sign method from a random start (Wong et al. 2020; the CrossViT paper's).

    δ ~ U(±ε); δ ← clip(δ + step · sign ∇δ loss(clip(x + δ)), ±ε); the picture is clip(x + δ).

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

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        state: dict[str, Tensor],
        progress: float,
    ) -> Tensor:
        """Perturb pictures (B, 3, H, W) in [0, 1]; see `Adversary`."""
        growth = self.growth(progress)
        epsilon = self.epsilon * growth
        if self.random_start:
            start = random_start(images, epsilon, self.norm)
        else:
            start = project(carried(state, images), epsilon, self.norm)
        loss = self.batch_loss(model, images, labels)
        gradient = image_gradient(model, images, start, loss, state)
        perturbation = ascend(start, gradient, self.step_size * growth, epsilon, self.norm)
        if not self.random_start:
            state[CARRIED][: len(images)] = perturbation
        return (images + perturbation).clamp(0, 1)


@ADVERSARIES.register("n_fgsm")
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyFGSM(BoundedAdversary):
    """N-FGSM (de Jorge et al. 2022): more noise, and no projection of the perturbation.

    η ~ U(±noise · ε); the picture is clip(x + η + ε · sign ∇η loss(x + η)). It may leave the
    ball by the noise, which is what keeps single-step training from catastrophic overfitting.

    Attributes:
        epsilon: Length of the step, and unit of the noise.
        norm: `linf` or `l2`.
        warmup: Share of the training during which noise and step grow from 0.
        loss: `cross_entropy` or `kl`.
        noise: Radius of the noise in units of ε.
    """

    noise: Annotated[float, at_least(0)] = 2.0

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        state: dict[str, Tensor],
        progress: float,
    ) -> Tensor:
        """Perturb pictures (B, 3, H, W) in [0, 1]; see `Adversary`."""
        epsilon = self.epsilon * self.growth(progress)
        start = random_start(images, self.noise * epsilon, self.norm)
        loss = self.batch_loss(model, images, labels)
        gradient = image_gradient(model, images, start, loss, state)
        moved = ascend(start, gradient, epsilon, math.inf, self.norm)
        return (images + moved).clamp(0, 1)


def carried(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The perturbation kept from the last batch, for as many rows as this batch has.

    It starts at zero, grows with the largest batch, and starts anew where the size of the
    pictures changes.
    """
    kept = state.get(CARRIED)
    if kept is None or kept.shape[1:] != images.shape[1:]:
        kept = torch.zeros_like(images)
    kept = kept.to(images.device)
    if len(kept) < len(images):
        kept = torch.cat([kept, torch.zeros_like(images[len(kept) :])])
    state[CARRIED] = kept
    return kept[: len(images)]
