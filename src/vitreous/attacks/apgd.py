"""Auto-PGD: projected gradient ascent that sets its own step length (Croce and Hein 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from vitreous.attacks.base import ATTACKS, Best, BoundedAttack, Goal, loss_and_gradient
from vitreous.attacks.losses import LOSSES, LossName
from vitreous.attacks.norms import Norm, inside, random_start, steepest
from vitreous.attacks.randomness import of_rows

MOMENTUM = 0.75
FEWEST_RISES = 0.75


class Climber(Protocol):
    """Settings that Algorithm 1 needs."""

    @property
    def epsilon(self) -> float: ...  # noqa: D102

    @property
    def norm(self) -> Norm: ...  # noqa: D102

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def loss(self) -> LossName: ...  # noqa: D102


@ATTACKS.register("apgd_ce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class APGD(BoundedAttack):
    """APGD: momentum, and a step that is halved where progress stalls (Algorithm 1).

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        steps: Gradient steps of each start.
        restarts: How many random starts.
        loss: `cross_entropy` (APGD-CE), `dlr` or `margin`.
    """

    steps: int = 100
    restarts: int = 1
    loss: LossName = "cross_entropy"

    def search(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        generator: torch.Generator | None,
    ) -> None:
        """Look for pictures that fool a model; see `BoundedAttack`."""
        for _ in range(self.restarts):
            rows = best.open_rows()
            if len(rows) == 0:
                break
            climb(self, model, images, goal, best, rows, goal.targets, generator)


@ATTACKS.register("apgd_t")
@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetedAPGD(BoundedAttack):
    """APGD-T: the targeted DLR loss towards each of the likeliest wrong classes in turn.

    It is the strongest single attack of AutoAttack, and is not misled by the scale of logits.

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        steps: Gradient steps towards each class.
        restarts: Random starts for each class.
        classes: How many wrong classes are tried, likeliest first.
    """

    steps: int = 100
    restarts: int = 1
    classes: int = 9
    loss: LossName = dataclasses.field(default="dlr", init=False)

    def search(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        generator: torch.Generator | None,
    ) -> None:
        """Look for pictures that fool a model; see `BoundedAttack`."""
        for aim in self._aims(model, images, goal):
            for _ in range(self.restarts):
                rows = best.open_rows()
                if len(rows) == 0:
                    return
                climb(self, model, images, goal, best, rows, aim, generator)

    @torch.no_grad()
    def _aims(self, model: nn.Module, images: Tensor, goal: Goal) -> list[Tensor]:
        """Classes (B,) to drive towards: the given targets, or the likeliest wrong ones."""
        if goal.targets is not None:
            return [goal.targets]
        logits = model(images).float().scatter(1, goal.labels[:, None], -torch.inf)
        ranks = logits.topk(min(self.classes, logits.shape[1] - 1), dim=1).indices
        return list(ranks.unbind(1))


@dataclasses.dataclass
class _Walk:
    """State of Algorithm 1, one row a picture that is not fooled yet."""

    rows: Tensor
    clean: Tensor
    now: Tensor
    before: Tensor
    gradient: Tensor
    loss: Tensor
    top: Tensor
    top_loss: Tensor
    top_gradient: Tensor
    length: Tensor
    rises: Tensor
    halved: Tensor
    checked_loss: Tensor

    def __getitem__(self, rows: Tensor) -> _Walk:
        return _Walk(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


def climb(
    attack: Climber,
    model: nn.Module,
    images: Tensor,
    goal: Goal,
    best: Best,
    rows: Tensor,
    aims: Tensor | None,
    generator: torch.Generator | None,
) -> None:
    """Run Algorithm 1 from one random start for some rows; keeps better pictures in `best`.

    Args:
        attack: Radius, norm, steps and loss.
        model: Pictures in [0, 1] → logits.
        images: (B, 3, H, W), all clean pictures.
        goal: What counts as fooled, for all of them.
        best: The best pictures so far, for all of them.
        rows: Indices of those to attack.
        aims: (B,) classes to drive towards, for the loss; None to drive away from the label.
        generator: Source of randomness.
    """

    def derive(perturbed: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        aim = None if aims is None else aims[rows]
        logits, loss, gradient = loss_and_gradient(
            model, perturbed, lambda z: LOSSES[attack.loss](z, goal.labels[rows], aim)
        )
        fooled = goal[rows].reached(logits)
        best.update(rows, perturbed, loss, fooled)
        return loss, gradient, fooled

    clean = images[rows]
    start = random_start(clean, attack.epsilon, attack.norm, of_rows(generator, rows))
    now = inside(clean, clean + start, attack.epsilon, attack.norm)
    loss, gradient, fooled = derive(now, rows)
    zeros = torch.zeros_like(loss)
    walk = _Walk(
        rows,
        clean,
        now,
        now,
        gradient,
        loss,
        now,
        loss,
        gradient,
        zeros + 2 * attack.epsilon,
        zeros,
        zeros.bool(),
        loss,
    )[~fooled]
    checks, since = _checkpoints(attack.steps), 0
    for step in range(1, attack.steps + 1):
        if len(walk.rows) == 0:
            return
        fooled = _move(attack, walk, derive, first=step == 1)
        since += 1
        if step in checks:
            _adapt(walk, since)
            since = 0
        if bool(fooled.any()):
            walk = walk[~fooled]


def _move(
    attack: Climber,
    walk: _Walk,
    derive: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    first: bool,
) -> Tensor:
    """Take one step with momentum; returns which rows are fooled now."""
    column = walk.length.view(-1, 1, 1, 1)
    moved = walk.now + column * steepest(walk.gradient, attack.norm)
    ahead = inside(walk.clean, moved, attack.epsilon, attack.norm)
    share = 1.0 if first else MOMENTUM
    mixed = walk.now + share * (ahead - walk.now) + (1 - share) * (walk.now - walk.before)
    walk.before, walk.now = walk.now, inside(walk.clean, mixed, attack.epsilon, attack.norm)
    loss, walk.gradient, fooled = derive(walk.now, walk.rows)
    walk.rises = walk.rises + (loss > walk.loss)
    walk.loss = loss
    better = loss > walk.top_loss
    image = better.view(-1, 1, 1, 1)
    walk.top = torch.where(image, walk.now, walk.top)
    walk.top_gradient = torch.where(image, walk.gradient, walk.top_gradient)
    walk.top_loss = torch.where(better, loss, walk.top_loss)
    return fooled


def _adapt(walk: _Walk, since: int) -> None:
    """Halve the step where progress stalls (conditions 1 and 2) and go back to the best."""
    few = walk.rises < FEWEST_RISES * since
    stuck = ~walk.halved & (walk.top_loss <= walk.checked_loss)
    halve = few | stuck
    walk.length = torch.where(halve, walk.length / 2, walk.length)
    image = halve.view(-1, 1, 1, 1)
    walk.now = torch.where(image, walk.top, walk.now)
    walk.before = torch.where(image, walk.top, walk.before)
    walk.gradient = torch.where(image, walk.top_gradient, walk.gradient)
    walk.loss = torch.where(halve, walk.top_loss, walk.loss)
    walk.halved, walk.checked_loss = halve, walk.top_loss
    walk.rises = torch.zeros_like(walk.rises)


def _checkpoints(steps: int) -> set[int]:
    """Steps after which progress is judged: shares p of the whole, at shrinking distances."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {-int(-share * steps // 1) for share in shares[1:] if share <= 1}
