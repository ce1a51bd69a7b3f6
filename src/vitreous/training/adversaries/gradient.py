"""What the gradient adversaries share: their ball, and the gradient of the loss for images."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Generator, Iterable, MutableMapping
from contextvars import ContextVar
from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.attacks.base import require_at_least
from vitreous.attacks.gradient import ascend, loss_and_gradient, warn_of_lost
from vitreous.attacks.norms import Norm, random_start
from vitreous.errors import VitreousError
from vitreous.ranges import SHARE, at_least

CARRIED = "perturbation"


@dataclasses.dataclass(frozen=True)
class BatchLoss:
    """What an adversary makes large on a batch: logits → each row's part of the mean (B,).

    Attributes:
        kind: `cross_entropy` with the labels, or `kl`, the divergence from a prediction.
        against: Labels (B,), or log-probabilities (B, C) of that prediction.
    """

    kind: str
    against: Tensor

    def __call__(self, logits: Tensor) -> Tensor:
        """Return what the rows (B,) of logits (B, C) add to the mean."""
        return self.of_rows(logits) / len(self.against)

    def of_rows(self, logits: Tensor) -> Tensor:
        """Return the loss (B,) of each row of logits (B, C)."""
        if self.kind == "kl":
            return _divergence(logits, self.against)
        return F.cross_entropy(logits, self.against, reduction="none")


class Passes(Protocol):
    """Makes passes of the model that is trained in another way than by calling it."""

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W) in [0, 1]."""
        ...

    def image_gradient(
        self,
        images: Tensor,
        perturbation: Tensor,
        loss: BatchLoss,
        state: MutableMapping[str, Tensor],
    ) -> Tensor:
        """What the function `image_gradient` returns."""
        ...


_passes: ContextVar[Passes | None] = ContextVar("passes", default=None)


@contextlib.contextmanager
def passes_made_by(passes: Passes | None) -> Generator[None]:
    """Let gradient adversaries make their passes so; None leaves them to the model."""
    token = _passes.set(passes)
    try:
        yield
    finally:
        _passes.reset(token)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundedAdversary(abc.ABC):
    """Frame of an adversary that climbs the loss by gradient steps; a subclass says from where.

    Attributes:
        epsilon: Radius of the ball, in units of the images ([0, 1]).
        norm: `linf` or `l2`.
        warmup: Share of the training during which radius and step grow linearly from 0.
        loss: What the adversary makes large: `cross_entropy` with the label, or `kl`, the
            divergence from the prediction for the clean image (TRADES).
    """

    epsilon: Annotated[float, at_least(0)] = 2 / 255
    norm: Norm = "linf"
    warmup: Annotated[float, SHARE] = 0.0
    loss: Literal["cross_entropy", "kl"] = "cross_entropy"

    def __post_init__(self) -> None:
        require_at_least(0, epsilon=self.epsilon)
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the training in [0, 1], found {self.warmup}")

    @property
    def carries_over(self) -> bool:
        """No: each batch starts anew."""
        return False

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        state: dict[str, Tensor],
        progress: float,
    ) -> Tensor:
        """Perturb images (B, 3, H, W) in [0, 1]; see `Adversary`."""
        growth = self.growth(progress)
        epsilon = self.epsilon * growth
        perturbation = self.start(images, epsilon, state)
        loss = self.batch_loss(model, images, labels)
        for step_size, limit in self.moves(epsilon, growth):
            gradient = image_gradient(model, images, perturbation, loss, state)
            perturbation = ascend(perturbation, gradient, step_size, limit, self.norm)
        if self.carries_over:
            state[CARRIED][: len(images)] = perturbation
        return (images + perturbation).clamp(0, 1)

    def start(self, images: Tensor, epsilon: float, state: dict[str, Tensor]) -> Tensor:
        """The perturbation (B, 3, H, W) before the first step: anywhere in the ball."""
        return random_start(images, epsilon, self.norm)

    @abc.abstractmethod
    def moves(self, epsilon: float, growth: float) -> Iterable[tuple[float, float]]:
        """Length of each step, and the radius that the perturbation is cut to after it.

        Args:
            epsilon: Radius of the ball at this moment of the training.
            growth: Its share of the full radius.
        """

    def growth(self, progress: float) -> float:
        """Factor of radius and step at a share of the training."""
        return 1.0 if self.warmup <= progress else progress / self.warmup

    def batch_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> BatchLoss:
        """What the adversary makes large on a batch.

        Args:
            model: Images in [0, 1] → logits; asked for the clean images where the loss is `kl`.
            images: (B, 3, H, W) in [0, 1], clean.
            labels: (B,) int64.

        Raises:
            VitreousError: If labels are needed and there are none.
        """
        if self.loss == "kl":
            return BatchLoss(self.loss, F.log_softmax(_clean_logits(model, images), dim=1))
        if bool((labels < 0).any()):
            raise VitreousError(
                "these pictures have no labels to drive away from; set adversary.loss kl, which "
                "departs from the model's own prediction"
            )
        return BatchLoss(self.loss, labels)


def image_gradient(
    model: nn.Module,
    images: Tensor,
    perturbation: Tensor,
    loss: BatchLoss,
    state: dict[str, Tensor],
) -> Tensor:
    """Gradient of the loss with respect to the perturbation, and to nothing else.

    Args:
        model: Images in [0, 1] → logits.
        images: (B, 3, H, W) in [0, 1].
        perturbation: (B, 3, H, W); the model sees the sum, cut to [0, 1]. A value whose sum lies
            outside or on a bound has no gradient: so is hardtanh's defined, where that of clamp
            on a bound is 1 before torch 2.14 and 0 since.
        loss: Of `BoundedAdversary.batch_loss`.
        state: Holds the loss scale in fp16; changed in place.

    Returns:
        (B, 3, H, W).
    """
    passes = _passes.get()
    if passes is not None:
        gradient = passes.image_gradient(images, perturbation, loss, state)
    else:
        _, _, gradient = loss_and_gradient(
            lambda moved: model(F.hardtanh(images + moved, 0, 1)), perturbation, loss, state
        )
    warn_of_lost(gradient)
    return gradient


def carried(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The perturbation kept from the last batch, for as many rows as this batch has.

    It starts at zero, grows with the largest batch, and starts anew where the size of the
    images changes.
    """
    kept = state.get(CARRIED)
    if kept is None or kept.shape[1:] != images.shape[1:]:
        kept = torch.zeros_like(images)
    kept = kept.to(images.device)
    if len(kept) < len(images):
        kept = torch.cat([kept, torch.zeros_like(images[len(kept) :])])
    state[CARRIED] = kept
    return kept[: len(images)]


def _clean_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, C) in float32, constant; a graph for them is the one with gradients."""
    passes = _passes.get()
    if passes is not None:
        return passes.logits(images).detach().float()
    with torch.no_grad():
        return model(images).float()


def _divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """KL (B,) of a prediction from the log-probabilities for the clean images."""
    moved = F.log_softmax(logits, dim=1)
    return F.kl_div(moved, clean, log_target=True, reduction="none").sum(1)
