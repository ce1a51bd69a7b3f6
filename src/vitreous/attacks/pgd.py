"""Projected gradient attacks: one step (FGSM) and many (PGD)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Self

import torch
from torch import Tensor, nn

from vitreous.attacks.base import ATTACKS, Best, BoundedAttack, Goal, require_at_least
from vitreous.attacks.gradient import Loss, ascend, loss_and_gradient, loss_only
from vitreous.attacks.losses import LOSSES, LossName
from vitreous.attacks.norms import random_start, within_ball
from vitreous.attacks.randomness import of_rows
from vitreous.ranges import STEPS, above, at_least


@ATTACKS.register("pgd")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD(BoundedAttack):
    """Projected gradient ascent with restarts (Madry et al. 2018).

    Every iterate counts: an image is done as soon as one fools the model, and later steps and
    restarts are spent on the others only.

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        steps: Gradient steps of each start.
        step_size: Length of one; 2.5 ε / steps by default.
        restarts: How many starts.
        random_start: Start inside the ball; off, the first start is the image itself.
        loss: `cross_entropy`, `margin` or `dlr`.
        early_stop: Stop on images that are fooled; off, the loss is raised to the last step.

    Examples:
        >>> import vitreous
        >>> model = vitreous.load_model("vit_tiny_patch16_224", pretrained=False, image_size=32)
        >>> images, labels = torch.rand(2, 3, 32, 32), torch.tensor([1, 2])
        >>> perturbed = PGD(epsilon=2 / 255, steps=2)(model, images, labels)
        >>> bool((perturbed - images).abs().max() <= 2 / 255 + 1e-6)
        True
    """

    steps: Annotated[int, STEPS] = 50
    step_size: Annotated[float, above(0)] | None = None
    restarts: Annotated[int, at_least(1)] = 1
    random_start: bool = True
    loss: LossName = "cross_entropy"
    early_stop: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, steps=self.steps, restarts=self.restarts)

    def exhaustive(self) -> Self:
        """The same attack, raising the loss to the last step."""
        return dataclasses.replace(self, early_stop=False)

    def search(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        generator: torch.Generator | None,
    ) -> None:
        """Look for images that fool a model; see `BoundedAttack`."""
        for restart in range(self.restarts):
            rows = best.open_rows() if self.early_stop else torch.arange(len(images))
            if len(rows) == 0:
                break
            random = self.random_start or restart > 0
            self._climb(model, images, goal, best, rows.to(images.device), random, generator)

    def _climb(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        rows: Tensor,
        random: bool,
        generator: torch.Generator | None,
    ) -> None:
        """Run one start for some rows; keeps every better image in `best`."""
        step_size = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        clean, perturbed, part = images[rows], images[rows], goal[rows]
        if random:
            start = random_start(clean, self.epsilon, self.norm, of_rows(generator, rows))
            perturbed = within_ball(clean, clean + start, self.epsilon, self.norm)
        for _ in range(self.steps):
            logits, loss, gradient = loss_and_gradient(model, perturbed, self._loss(part))
            fooled = part.reached_by(model, perturbed, logits)
            best.update(rows, perturbed, loss, fooled)
            if self.early_stop and bool(fooled.any()):
                stay = ~fooled
                rows, clean, part = rows[stay], clean[stay], part[stay]
                perturbed, gradient = perturbed[stay], gradient[stay]
                if len(rows) == 0:
                    return
            moved = ascend(perturbed, gradient, step_size, self.epsilon, self.norm, clean)
            perturbed = (clean + moved).clamp(0, 1)
        logits, loss = loss_only(model, perturbed, self._loss(part))
        best.update(rows, perturbed, loss, part.reached_by(model, perturbed, logits))

    def _loss(self, goal: Goal) -> Loss:
        return lambda logits: LOSSES[self.loss](logits, goal.labels, goal.targets)


@ATTACKS.register("fgsm")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FGSM(BoundedAttack):
    """One step (Goodfellow et al. 2015).

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        step_size: Length of the step; ε by default.
        random_start: Start inside the ball instead of at the image.

    Examples:
        >>> brightest = torch.nn.Flatten().eval()  # it answers with the brightest channel
        >>> image = torch.tensor([0.5, 0.4, 0.1]).view(1, 3, 1, 1)
        >>> perturbed = FGSM(epsilon=0.1)(brightest, image, torch.tensor([0]))
        >>> [round(value, 2) for value in perturbed.flatten().tolist()]
        [0.4, 0.5, 0.2]
    """

    step_size: Annotated[float, above(0)] | None = None
    random_start: bool = False

    def search(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        generator: torch.Generator | None,
    ) -> None:
        """Look for images that fool a model; see `BoundedAttack`."""
        step = PGD(
            epsilon=self.epsilon,
            norm=self.norm,
            steps=1,
            step_size=self.epsilon if self.step_size is None else self.step_size,
            random_start=self.random_start,
        )
        step.search(model, images, goal, best, generator)
