"""What an attack is, and what all attacks share: the goal, the borrowed model, the best so far."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Generator
from typing import Annotated, Protocol, Self

import torch
from torch import Tensor, nn

from vitreous.attacks.findings import plain_findings, warn
from vitreous.attacks.norms import Norm
from vitreous.models.modes import evaluation_mode
from vitreous.precision import rounds, unrounded
from vitreous.ranges import at_least
from vitreous.registry import Registry


class Attack(Protocol):
    """Frozen settings and a call; `AttackSettings` gives an attack what all share.

    Attributes:
        epsilon: Radius of the ball, in units of the images ([0, 1]).
        norm: `linf` or `l2`.

    Examples:
        >>> attack = ATTACKS["pgd"](epsilon=2 / 255)
        >>> attack.norm, attack.at(4 / 255).epsilon / attack.epsilon
        ('linf', 2.0)
    """

    @property
    def epsilon(self) -> float: ...  # noqa: D102

    @property
    def norm(self) -> Norm: ...  # noqa: D102

    def at(self, epsilon: float) -> Self:
        """The same attack with another radius."""
        ...

    def for_classes(self, count: int) -> Self:
        """The same attack as it is for a model of `count` classes, which is what records say."""
        ...

    def exhaustive(self) -> Self:
        """The same attack, going on to its last step where it would stop at a fooled image."""
        ...

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Look for images that fool a model.

        The model is attacked in evaluation mode; its modes, `requires_grad` flags and gradients
        are as before afterwards, also after an exception.

        Args:
            model: Images in [0, 1] → logits (B, C).
            images: (B, 3, H, W) in [0, 1].
            labels: (B,) int64, the true classes.
            targets: (B,) int64: fooled means that the model says this class; by default it means
                that the model does not say the label.
            generator: Source of randomness; torch's global one by default.

        Returns:
            (B, 3, H, W) in the ball around `images` and in [0, 1]; where the goal was not
            reached, the image that came closest.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Goal:
    """What counts as fooled.

    Attributes:
        labels: (B,) true classes.
        targets: (B,) classes that the model shall say, or None: anything but the label.
    """

    labels: Tensor
    targets: Tensor | None = None

    def reached(self, logits: Tensor) -> Tensor:
        """Where (B,) bool the model is fooled; logits that are not numbers do not count."""
        said = logits.argmax(1)
        fooled = said != self.labels if self.targets is None else said == self.targets
        return fooled & logits.isfinite().all(1)

    def reached_by(self, model: nn.Module, images: Tensor, logits: Tensor | None = None) -> Tensor:
        """Where (B,) bool images fool a model, by passes in the model's own type.

        A search may be made in a smaller one (`vitreous.precision`), which is right about most
        images: only where its logits say that the goal is reached is the model asked again.

        Args:
            model: Images in [0, 1] → logits (B, C).
            images: (B, 3, H, W) in [0, 1].
            logits: (B, C) of these images, as the search has them.
        """
        if logits is not None and not rounds(images.device):
            return self.reached(logits)
        claimed = torch.ones_like(self.labels, dtype=torch.bool)
        if logits is not None:
            claimed = self.reached(logits)
        rows = claimed.nonzero()[:, 0]
        if len(rows):
            with torch.no_grad(), unrounded(images.device):
                claimed[rows] = self[rows].reached(model(images[rows]).float())
        return claimed

    def __getitem__(self, rows: Tensor) -> Goal:
        """Select rows."""
        return Goal(self.labels[rows], None if self.targets is None else self.targets[rows])


class Best:
    """The best image so far of each row: fooling ones first, then the highest loss."""

    def __init__(self, images: Tensor):
        self.images = images.clone()
        self.fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        self._loss = torch.full((len(images),), -torch.inf, device=images.device)

    def update(self, rows: Tensor, images: Tensor, loss: Tensor, fooled: Tensor) -> Tensor:
        """Offer images for rows (their indices); returns which were better."""
        known = self.fooled[rows]
        better = (fooled & ~known) | ((fooled == known) & (loss > self._loss[rows]))
        chosen = rows[better]
        self.images[chosen] = images[better].detach()
        self._loss[chosen] = loss[better].detach()
        self.fooled[chosen] = fooled[better]
        return better

    def open_rows(self) -> Tensor:
        """Indices of the rows that are not fooled yet."""
        return (~self.fooled).nonzero()[:, 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """What all attacks of this package share; the call is each one's own.

    Attributes:
        epsilon: Radius of the ball, in units of the images ([0, 1]).
        norm: `linf` or `l2`.
    """

    epsilon: Annotated[float, at_least(0)] = 2 / 255
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        require_at_least(0, epsilon=self.epsilon)

    def at(self, epsilon: float) -> Self:
        """The same attack with another radius."""
        return dataclasses.replace(self, epsilon=epsilon)

    def for_classes(self, count: int) -> Self:
        """The same attack: none of its settings depends on how many classes there are."""
        return self

    def exhaustive(self) -> Self:
        """The same attack: it has no early stop that could be switched off."""
        return self


ATTACKS: Registry[Callable[..., Attack]] = Registry("attack", "vitreous.attacks")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundedAttack(AttackSettings, abc.ABC):
    """Frame of an attack that keeps the best image it meets; a subclass searches."""

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Look for images that fool a model; see `Attack`.

        Warns (`AttackWarning`) of a model in training mode and of images outside [0, 1].
        """
        warn(plain_findings(model, images))
        goal, best = Goal(labels, targets), Best(images)
        with attack_mode(model):
            self.search(model, images, goal, best, generator)
        return best.images

    @abc.abstractmethod
    def search(
        self,
        model: nn.Module,
        images: Tensor,
        goal: Goal,
        best: Best,
        generator: torch.Generator | None,
    ) -> None:
        """Offer images inside the ball to `best`.

        Args:
            model: Images in [0, 1] → logits (B, C), in evaluation mode with frozen weights.
            images: (B, 3, H, W) in [0, 1].
            goal: What counts as fooled.
            best: The best images so far, which start as the clean ones.
            generator: Source of randomness; torch's global one by default.
        """


def require_at_least(least: int, **settings: float) -> None:
    """Refuse settings that are too small; raises ValueError with the first one's name."""
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"expected {name} of at least {least}, found {value}")


@contextlib.contextmanager
def attack_mode(model: nn.Module) -> Generator[None]:
    """Attack in evaluation mode with frozen weights; give the model back as it was."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    with evaluation_mode(model):
        try:
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
