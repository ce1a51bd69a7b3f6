"""Auto-PGD: projected gradient ascent that sets its own step length (Croce and Hein 2020)."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Protocol, Self

import torch
from torch import Tensor, nn

from vitreous.attacks.base import ATTACKS, Best, BoundedAttack, Goal, require_at_least
from vitreous.attacks.gradient import ascend, loss_and_gradient
from vitreous.attacks.losses import LOSSES, LossName
from vitreous.attacks.norms import Norm, random_start, within_ball
from vitreous.attacks.randomness import of_rows
from vitreous.ranges import STEPS, at_least

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

    Examples:
        >>> brightest = torch.nn.Flatten().eval()  # it answers with the brightest channel
        >>> image, label = torch.tensor([0.5, 0.4, 0.1]).view(1, 3, 1, 1), torch.tensor([0])
        >>> perturbed = APGD(epsilon=0.1, steps=5)(brightest, image, label)
        >>> brightest(perturbed).argmax(1).tolist()
        [1]
    """

    steps: Annotated[int, STEPS] = 100
    restarts: Annotated[int, at_least(1)] = 1
    loss: LossName = "cross_entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, steps=self.steps, restarts=self.restarts)

    def search(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        generator: torch.Generator | None,
    ) -> None:
        """Look for images that fool a model; see `BoundedAttack`."""
        climb = Climb(self, model, images, goal, best, goal.targets)
        for _ in range(self.restarts):
            rows = best.open_rows()
            if len(rows) == 0:
                break
            climb.run(rows, generator)


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

    Examples:
        >>> model = torch.nn.Flatten().eval()  # its answer is the brightest of twelve values
        >>> images = torch.rand(2, 3, 2, 2)
        >>> attack = TargetedAPGD(epsilon=0.1, steps=5, classes=2)
        >>> perturbed = attack(model, images, model(images).argmax(1))
        >>> bool((perturbed - images).abs().max() <= 0.1 + 1e-6)
        True
    """

    steps: Annotated[int, STEPS] = 100
    restarts: Annotated[int, at_least(1)] = 1
    classes: Annotated[int, at_least(1)] = 9
    loss: LossName = dataclasses.field(default="dlr", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, steps=self.steps, restarts=self.restarts, classes=self.classes)

    def for_classes(self, count: int) -> Self:
        """The same attack with as many targets as a model of `count` classes has wrong ones."""
        return dataclasses.replace(self, classes=max(1, min(self.classes, count - 1)))

    def search(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        generator: torch.Generator | None,
    ) -> None:
        """Look for images that fool a model; see `BoundedAttack`."""
        for aim in self._aims(model, images, goal):
            climb = Climb(self, model, images, goal, best, aim)
            for _ in range(self.restarts):
                rows = best.open_rows()
                if len(rows) == 0:
                    return
                climb.run(rows, generator)

    @torch.no_grad()
    def _aims(self, model: nn.Module, images: Tensor, goal: Goal) -> list[Tensor]:
        """Classes (B,) to drive towards: the given targets, or the likeliest wrong ones."""
        if goal.targets is not None:
            return [goal.targets]
        logits = model(images).float().scatter(1, goal.labels[:, None], -torch.inf)
        ranks = logits.topk(min(self.classes, logits.shape[1] - 1), dim=1).indices
        return list(ranks.unbind(1))


@dataclasses.dataclass(frozen=True)
class Point:
    """Where the ascent of some images is.

    Attributes:
        images: (B, 3, H, W), perturbed.
        loss: (B,).
        gradient: (B, 3, H, W) of the loss.
    """

    images: Tensor
    loss: Tensor
    gradient: Tensor

    def __getitem__(self, rows: Tensor) -> Point:
        """Select rows."""
        return Point(self.images[rows], self.loss[rows], self.gradient[rows])

    def replaced(self, where: Tensor, other: Point) -> Point:
        """The same point, of another one where (B,) bool says so."""
        column = where.view(-1, 1, 1, 1)
        return Point(
            torch.where(column, other.images, self.images),
            torch.where(where, other.loss, self.loss),
            torch.where(column, other.gradient, self.gradient),
        )


@dataclasses.dataclass(frozen=True)
class Ascent:
    """State of Algorithm 1, a row for each image that is not fooled yet.

    Attributes:
        rows: (B,) indices among all images.
        clean: (B, 3, H, W).
        now: The present point.
        before: (B, 3, H, W), the images one step ago.
        top: The point of the highest loss so far.
        step_size: (B,).
        rises: (B,) steps since the last checkpoint that raised the loss.
        halved: (B,) bool: the step was halved at the last checkpoint.
        checked_loss: (B,) the highest loss at the last checkpoint.
    """

    rows: Tensor
    clean: Tensor
    now: Point
    before: Tensor
    top: Point
    step_size: Tensor
    rises: Tensor
    halved: Tensor
    checked_loss: Tensor

    def __getitem__(self, rows: Tensor) -> Ascent:
        """Select rows."""
        return Ascent(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})

    def moved(self, to: Point) -> Ascent:
        """The state after a step to another point."""
        return dataclasses.replace(
            self,
            now=to,
            before=self.now.images,
            top=self.top.replaced(to.loss > self.top.loss, to),
            rises=self.rises + (to.loss > self.now.loss),
        )

    def checked(self, steps: int) -> Ascent:
        """Halve the step where progress stalled over some steps, and go back to the best there.

        That is where the loss rose in few of them (condition 1), or where neither the step nor
        the highest loss has changed since the last checkpoint (condition 2).
        """
        few = self.rises < FEWEST_RISES * steps
        stuck = ~self.halved & (self.top.loss <= self.checked_loss)
        halve = few | stuck
        return dataclasses.replace(
            self,
            now=self.now.replaced(halve, self.top),
            before=torch.where(halve.view(-1, 1, 1, 1), self.top.images, self.before),
            step_size=torch.where(halve, self.step_size / 2, self.step_size),
            rises=torch.zeros_like(self.rises),
            halved=halve,
            checked_loss=self.top.loss,
        )


@dataclasses.dataclass(frozen=True)
class Climb:
    """Algorithm 1 on a batch; better images are kept in `best`.

    Attributes:
        settings: Radius, norm, steps and loss.
        model: Images in [0, 1] → logits.
        images: (B, 3, H, W), all clean images.
        goal: What counts as fooled, for all of them.
        best: The best images so far, for all of them.
        aims: (B,) classes to drive towards, for the loss; None to drive away from the label.
    """

    settings: Climber
    model: nn.Module
    images: Tensor
    goal: Goal
    best: Best
    aims: Tensor | None

    def run(self, rows: Tensor, generator: torch.Generator | None) -> None:
        """Climb from one random start for some rows."""
        state = self._start(rows, generator)
        checks, since = _checkpoints(self.settings.steps), 0
        for step in range(1, self.settings.steps + 1):
            if len(state.rows) == 0:
                return
            point, fooled = self._derive(self._ahead(state, first=step == 1), state.rows)
            state, since = state.moved(point), since + 1
            if step in checks:
                state, since = state.checked(since), 0
            if bool(fooled.any()):
                state = state[~fooled]

    def _start(self, rows: Tensor, generator: torch.Generator | None) -> Ascent:
        """Begin inside the ball with the rows that the start does not fool already."""
        epsilon, norm, clean = self.settings.epsilon, self.settings.norm, self.images[rows]
        start = random_start(clean, epsilon, norm, of_rows(generator, rows))
        point, fooled = self._derive(within_ball(clean, clean + start, epsilon, norm), rows)
        zeros = torch.zeros_like(point.loss)
        state = Ascent(
            rows=rows,
            clean=clean,
            now=point,
            before=point.images,
            top=point,
            step_size=zeros + 2 * epsilon,
            rises=zeros,
            halved=zeros.bool(),
            checked_loss=point.loss,
        )
        return state[~fooled]

    def _ahead(self, state: Ascent, first: bool) -> Tensor:
        """The next images (B, 3, H, W): a step along the gradient, with momentum."""
        epsilon, norm, now = self.settings.epsilon, self.settings.norm, state.now.images
        length = state.step_size.view(-1, 1, 1, 1)
        moved = ascend(now, state.now.gradient, length, epsilon, norm, state.clean)
        ahead = (state.clean + moved).clamp(0, 1)
        share = 1.0 if first else MOMENTUM
        mixed = now + share * (ahead - now) + (1 - share) * (now - state.before)
        return within_ball(state.clean, mixed, epsilon, norm)

    def _derive(self, perturbed: Tensor, rows: Tensor) -> tuple[Point, Tensor]:
        """Loss and gradient of perturbed images, and which (B,) fool the model."""
        aim = None if self.aims is None else self.aims[rows]
        part, loss = self.goal[rows], LOSSES[self.settings.loss]
        logits, values, gradient = loss_and_gradient(
            self.model, perturbed, lambda z: loss(z, part.labels, aim)
        )
        fooled = part.reached_by(self.model, perturbed, logits)
        self.best.update(rows, perturbed, values, fooled)
        return Point(perturbed, values, gradient), fooled


def _checkpoints(steps: int) -> set[int]:
    """Steps after which progress is judged: shares p of the whole, at shrinking distances."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    # Rounded first: 0.57 of 100 is 57 steps, and 57.00000000000001 would be 58.
    return {math.ceil(round(share * steps, 6)) for share in shares[1:] if share <= 1}
