"""Several projected gradient steps (Madry et al. 2018)."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor, nn

from vitreous.attacks.base import require_at_least
from vitreous.attacks.gradient import ascend
from vitreous.attacks.norms import random_start
from vitreous.ranges import at_least
from vitreous.training.adversaries.base import ADVERSARIES
from vitreous.training.adversaries.gradient import BoundedAdversary, image_gradient


@ADVERSARIES.register("pgd")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD(BoundedAdversary):
    """Projected gradient ascent inside the ball.

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        warmup: Share of the training during which radius and step grow from 0.
        loss: `cross_entropy`, or `kl` for TRADES.
        steps: How many; each costs a forward and an activation-only backward pass.
        step_size: Length of one; 2.5 ε / steps by default.
        random_start: Draw the start from the ball; else start at the clean picture.
    """

    steps: Annotated[int, at_least(1)] = 2
    step_size: Annotated[float, at_least(0)] | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, steps=self.steps)
        if self.loss == "kl" and not self.random_start:
            raise ValueError("loss kl has no gradient at the clean picture: random_start is needed")

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
        step_size = growth * (
            2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        )
        perturbation = torch.zeros_like(images)
        if self.random_start:
            perturbation = random_start(images, epsilon, self.norm)
        loss = self.batch_loss(model, images, labels)
        for _ in range(self.steps):
            gradient = image_gradient(model, images, perturbation, loss, state)
            perturbation = ascend(perturbation, gradient, step_size, epsilon, self.norm)
        return (images + perturbation).clamp(0, 1)
