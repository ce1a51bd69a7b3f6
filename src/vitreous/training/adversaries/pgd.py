"""Several projected gradient steps (Madry et al. 2018)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated

import torch
from torch import Tensor

from vitreous.attacks.base import require_at_least
from vitreous.ranges import at_least
from vitreous.training.adversaries.base import ADVERSARIES
from vitreous.training.adversaries.gradient import BoundedAdversary


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
        random_start: Draw the start from the ball; else start at the clean image.
    """

    steps: Annotated[int, at_least(1)] = 2
    step_size: Annotated[float, at_least(0)] | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, steps=self.steps)
        if self.loss == "kl" and not self.random_start:
            raise ValueError("loss kl has no gradient at the clean picture: random_start is needed")

    def start(self, images: Tensor, epsilon: float, state: dict[str, Tensor]) -> Tensor:
        """Anywhere in the ball, or the clean image."""
        if self.random_start:
            return super().start(images, epsilon, state)
        return torch.zeros_like(images)

    def moves(self, epsilon: float, growth: float) -> Iterable[tuple[float, float]]:
        """All steps, each followed by the projection to the ball."""
        default = 2.5 * self.epsilon / self.steps
        step_size = growth * (default if self.step_size is None else self.step_size)
        return [(step_size, epsilon)] * self.steps
