"""Square attack: random squares, no gradients (Andriushchenko et al. 2020)."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import torch
from torch import Tensor, nn

from vitreous.attacks.base import ATTACKS, Best, BoundedAttack, Goal, require_at_least
from vitreous.attacks.gradient import loss_only
from vitreous.attacks.losses import margin
from vitreous.attacks.norms import within_ball
from vitreous.attacks.randomness import draw, of_rows
from vitreous.attacks.square_l2 import moved_mass, tiled_start
from vitreous.ranges import above, at_least

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@ATTACKS.register("square")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Square(BoundedAttack):
    """Random search over squares, accepting what lowers the margin.

    In L∞ squares of ±ε (Algorithm 2 of the paper), in L2 windows that take each other's
    perturbation (Algorithm 3).

    It sees logits only, so a model that merely hides its gradients does not withstand it.

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        queries: Squares tried for each image at most, each a forward pass.
        first_share: Share of the image that the first squares cover (the paper has 0.8 in L∞ and
            0.1 in L2; AutoAttack takes 0.8 for both).

    Examples:
        >>> brightest = torch.nn.Flatten().eval()  # it answers with the brightest channel
        >>> image = torch.tensor([0.5, 0.4, 0.1]).view(1, 3, 1, 1)
        >>> perturbed = Square(epsilon=0.1, queries=50)(brightest, image, torch.tensor([0]))
        >>> brightest(perturbed).argmax(1).tolist()
        [1]
    """

    queries: Annotated[int, at_least(1)] = 5000
    first_share: Annotated[float, above(0, at_most=1)] = 0.8

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
        self._try(model, images, goal, best, best.open_rows())
        rows = best.open_rows()
        source = of_rows(generator, rows)
        start = self._start(images[rows], source)
        now = torch.empty_like(images)
        now[rows] = start
        # The search goes on from the stripes even where the clean image has more margin.
        value = torch.full((len(images),), -torch.inf, device=images.device)
        value[rows] = self._try(model, start, goal, best, rows)
        for query in range(self.queries):
            rows = best.open_rows()
            if len(rows) == 0:
                break
            tried = self._propose(images[rows], now[rows], query, of_rows(generator, rows))
            found = self._try(model, tried, goal, best, rows)
            better = found > value[rows]
            now[rows[better]] = tried[better]
            value[rows[better]] = found[better]

    def _try(
        self, model: nn.Module, images: Tensor, goal: Goal, best: Best, rows: Tensor
    ) -> Tensor:
        """Query the model; returns the margin (B,), higher is closer to fooled."""
        part = goal[rows]
        logits, value = loss_only(model, images, lambda z: margin(z, part.labels, part.targets))
        best.update(rows, images, value, part.reached_by(model, images, logits))
        return value

    def _start(self, clean: Tensor, source: torch.Generator | None) -> Tensor:
        """Where the search begins: stripes, or tiles."""
        if self.norm == "l2":
            return tiled_start(clean, self.epsilon, source)
        stripes = _signs(clean[:, :, :1, :], source).expand_as(clean)
        return (clean + self.epsilon * stripes).clamp(0, 1)

    def _propose(
        self, clean: Tensor, now: Tensor, query: int, generator: torch.Generator | None
    ) -> Tensor:
        """Change one random square of each image, inside the ball."""
        height, width = clean.shape[-2:]
        passed = query * 10_000 / self.queries
        share = self.first_share / 2 ** sum(passed > border for border in HALVINGS)
        if self.norm == "l2":
            return moved_mass(clean, now, self.epsilon, share, generator)
        side = max(1, min(round(math.sqrt(share * height * width)), height - 1, width - 1))
        rows = _window(clean, height, side, generator)[:, None, :, None]
        columns = _window(clean, width, side, generator)[:, None, None, :]
        move = 2 * self.epsilon * _signs(clean[:, :, :1, :1], generator)
        return within_ball(clean, now + move * rows * columns, self.epsilon, "linf")


def _signs(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return 2 * draw(torch.randint, like.shape, like, generator, 0, 2) - 1


def _window(like: Tensor, length: int, side: int, generator: torch.Generator | None) -> Tensor:
    """Indicator (B, length) of an interval of `side` pixels at a random place."""
    first = draw(torch.randint, (len(like), 1), like, generator, 0, length - side + 1)
    place = torch.arange(length, device=like.device)[None] - first
    return ((place >= 0) & (place < side)).to(like.dtype)
