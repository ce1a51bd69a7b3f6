"""Square attack: random squares, no gradients (Andriushchenko et al. 2020)."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from vitreous.attacks.base import ATTACKS, Best, BoundedAttack, Goal, require_at_least
from vitreous.attacks.gradient import loss_only
from vitreous.attacks.losses import margin
from vitreous.attacks.squares import l2_proposal, l2_start, linf_proposal, linf_start

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@ATTACKS.register("square")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Square(BoundedAttack):
    """Random search over squares, accepting what lowers the margin (Algorithms 1 to 3).

    It sees logits only, so a model that merely hides its gradients does not withstand it.

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf`: squares of ±ε; `l2`: windows that gather the perturbation of two.
        queries: Squares tried for each image at most, each a forward pass.
        first_share: Share of the image that the first squares cover.
    """

    queries: int = 5000
    first_share: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, queries=self.queries)

    def search(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        generator: torch.Generator | None,
    ) -> None:
        """Look for images that fool a model; see `BoundedAttack`."""
        begin, propose = (
            (linf_start, linf_proposal) if self.norm == "linf" else (l2_start, l2_proposal)
        )
        self._try(model, images, goal, best, best.open_rows())
        rows = best.open_rows()
        start = begin(images[rows], self.epsilon, generator)
        now = torch.empty_like(images)
        now[rows] = start
        # The search goes on from the start even where the clean image has more margin.
        value = torch.full((len(images),), -torch.inf, device=images.device)
        value[rows] = self._try(model, start, goal, best, rows)
        for query in range(self.queries):
            rows = best.open_rows()
            if len(rows) == 0:
                break
            side = self._side(images, query)
            tried = propose(images[rows], now[rows], side, self.epsilon, generator)
            reached = self._try(model, tried, goal, best, rows)
            better = reached > value[rows]
            now[rows[better]] = tried[better]
            value[rows[better]] = reached[better]

    def _try(
        self, model: nn.Module, images: Tensor, goal: Goal, best: Best, rows: Tensor
    ) -> Tensor:
        """Query the model; returns the margin (B,), higher is closer to fooled."""
        part = goal[rows]
        logits, value = loss_only(model, images, lambda z: margin(z, part.labels, part.targets))
        best.update(rows, images, value, part.reached(logits))
        return value

    def _side(self, images: Tensor, query: int) -> int:
        """Side of the squares of a query, in pixels: their share is halved again and again."""
        passed = query * 10_000 / self.queries
        share = self.first_share / 2 ** sum(passed > border for border in HALVINGS)
        return round(math.sqrt(share * images.shape[-2] * images.shape[-1]))
