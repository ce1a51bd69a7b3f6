"""What can make an attack look weaker than it is: each finding says why and what to do."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vitreous.attacks.base import attack_mode
from vitreous.attacks.findings import AttackWarning, Finding, plain_findings, warn
from vitreous.attacks.gradient import Loss, loss_and_gradient
from vitreous.attacks.losses import cross_entropy, margin
from vitreous.attacks.pgd import PGD
from vitreous.attacks.randomness import RowGenerators

__all__ = ["AttackWarning", "Finding", "Observed", "check", "masked_by", "observe", "warn"]

LOST_SHARE = 0.001
LARGE_EPSILON = 0.5
GRADIENT_FREE = ("square", "sequence", "autoattack")  # wholly or in part
SHAKEN = 16  # images that are attacked at it


@dataclasses.dataclass(frozen=True)
class Observed:
    """What was seen of a model on some images; of parts of them it adds up.

    Attributes:
        plain: What needs no forward pass.
        images: How many were looked at.
        classes: Logits of an image.
        change: Largest difference of logits of two passes on the same images.
        scale: Largest logit.
        blind: Images whose logits have no gradient by the pixels.
        saturated: Images whose cross entropy alone has none.
        lost: Values that are 0 in the gradients of the others.
        values: How many values these gradients have.
        attacked: Images that were attacked at `LARGE_EPSILON`.
        withstood: How many of those are still right.
    """

    plain: tuple[Finding, ...]
    images: int
    classes: int
    change: float
    scale: float
    blind: int
    saturated: int
    lost: int
    values: int
    attacked: int
    withstood: int

    def __add__(self, other: Observed) -> Observed:
        largest = {name: max(getattr(self, name), getattr(other, name)) for name in LARGEST}
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        names = {finding.name for finding in self.plain}
        more = tuple(finding for finding in other.plain if finding.name not in names)
        return Observed(plain=(*self.plain, *more), **largest, **sums)

    def findings(self) -> list[Finding]:
        """A finding for each thing that is wrong; none if all is well."""
        found = [self._stochastic(), self._blind(), self._saturated(), self._lost(), self._masked()]
        return [*self.plain, *(finding for finding in found if finding is not None)]

    def _stochastic(self) -> Finding | None:
        if self.change <= 1e-3 * max(1e-6, self.scale):
            return None
        return Finding(
            "stochastic",
            f"the same pictures give logits that differ by {self.change:.3g} in evaluation mode, "
            "so one gradient says little; average several forward passes inside the model, or use "
            "autoattack with version rand",
        )

    def _blind(self) -> Finding | None:
        if not self.blind:
            return None
        return Finding(
            "vanishing gradients",
            f"the logits of {self.blind} of {self.images} pictures do not depend on the "
            "pixels by their gradient (gradient masking: rounding, thresholds, or detached "
            "inputs inside the model); gradient attacks are blind then, trust square only",
        )

    def _saturated(self) -> Finding | None:
        if not self.saturated:
            return None
        return Finding(
            "vanishing gradients",
            f"the cross entropy of {self.saturated} of {self.images} pictures is "
            "saturated and its gradient is 0; use apgd_t, or pgd with loss dlr, which do not "
            "depend on the scale of logits",
        )

    def _lost(self) -> Finding | None:
        share = self.lost / max(1, self.values)
        if share <= LOST_SHARE:
            return None
        return Finding(
            "lost perturbations",
            f"{share:.2%} of the gradient's values are 0 or not finite, more than "
            f"{LOST_SHARE:.1%}: their pixels stay unperturbed (sign 0); attack in float32 or "
            "bfloat16",
        )

    def _masked(self) -> Finding | None:
        if self.withstood <= max(1.0, 2 * self.attacked / self.classes):
            return None
        return Finding(
            "gradient masking",
            f"{self.withstood} of {self.attacked} pictures withstand PGD at epsilon "
            f"{LARGE_EPSILON}, where any picture can be made gray: the gradients do not lead "
            "anywhere; compare with square, and do not report what gradient attacks say",
        )


LARGEST = ("classes", "change", "scale")
SUMS = ("images", "blind", "saturated", "lost", "values", "attacked", "withstood")


def check(model: nn.Module, images: Tensor, labels: Tensor) -> list[Finding]:
    """Look for what makes attacks misleading, on one batch; the model is left as it was.

    Args:
        model: Images in [0, 1] → logits.
        images: (B, 3, H, W); a few will do.
        labels: (B,) int64.

    Returns:
        A finding for each thing that is wrong; none if all is well.
    """
    return observe(model, images, labels).findings()


def observe(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attacked: int = SHAKEN,
    seeds: Sequence[int] | None = None,
) -> Observed:
    """Count what makes attacks misleading on a batch; the model is left as it was.

    Args:
        model: Images in [0, 1] → logits.
        images: (B, 3, H, W) with B ≥ 1.
        labels: (B,) int64.
        attacked: The first so many are attacked at `LARGE_EPSILON`.
        seeds: Of the images' starts; their numbers by default.
    """
    plain = tuple(plain_findings(model, images))
    with attack_mode(model), warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)  # they are among the findings already
        with torch.no_grad():
            first, second = model(images), model(images)
        withstood = _withstood(
            model, images[:attacked], labels[:attacked], seeds or range(len(images))
        )
        return Observed(
            plain=plain,
            images=len(images),
            classes=first.shape[1],
            change=float((first - second).abs().max()),
            scale=float(first.abs().max()),
            attacked=min(attacked, len(images)),
            withstood=withstood,
            **_gradients(model, images, labels),
        )


def _gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, int]:
    """Gradients that vanish, and those that are lost to rounding, for two losses."""
    entropy = _gradient(model, images, lambda z: cross_entropy(z, labels))
    gap = _gradient(model, images, lambda z: margin(z, labels))
    empty = (entropy.flatten(1) == 0).all(1)
    dead = (gap.flatten(1) == 0).all(1)
    kept = entropy[~empty]
    return {
        "blind": int(dead.sum()),
        "saturated": int((empty & ~dead).sum()),
        "lost": int((kept == 0).sum()),
        "values": kept.numel(),
    }


def _gradient(model: nn.Module, images: Tensor, loss: Loss) -> Tensor:
    _, _, gradient = loss_and_gradient(model, images, loss)
    return gradient.nan_to_num(0.0, 0.0, 0.0)


def _withstood(model: nn.Module, images: Tensor, labels: Tensor, seeds: Sequence[int]) -> int:
    """At half the range of pixels any image can be made gray, so nothing may withstand."""
    if not len(images):
        return 0
    attack = PGD(epsilon=LARGE_EPSILON, steps=20, loss="margin")
    generator = RowGenerators.of_seeds(0, list(seeds)[: len(images)])
    perturbed = attack(model, images, labels, generator=generator)
    with torch.no_grad():
        return int((model(perturbed).argmax(1) == labels).sum())


def masked_by(outcomes: Mapping[str, float]) -> Finding | None:
    """Say so if an attack without gradients found more than those with them.

    Args:
        outcomes: Attack → robust accuracy at the same ε.
    """
    gradient = [v for k, v in outcomes.items() if k not in GRADIENT_FREE]
    if "square" not in outcomes or not gradient or outcomes["square"] >= min(gradient):
        return None
    return Finding(
        "gradient masking",
        f"square, which sees no gradients, leaves {outcomes['square']:.1%} and the best gradient "
        f"attack {min(gradient):.1%}: gradients are masked; report the least of all attacks",
    )
