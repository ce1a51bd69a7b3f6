"""What can make an attack look weaker than it is: each finding says why and what to do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitreous.attacks.base import attack_mode
from vitreous.attacks.findings import AttackWarning, Finding, plain_findings, warn
from vitreous.attacks.gradient import Loss, loss_and_gradient
from vitreous.attacks.losses import cross_entropy, margin
from vitreous.attacks.pgd import PGD

__all__ = ["AttackWarning", "Finding", "check", "masked_by", "warn"]

LOST_SHARE = 0.001
LARGE_EPSILON = 0.5
GRADIENT_FREE = ("square", "sequence", "autoattack")  # wholly or in part


def check(model: nn.Module, images: Tensor, labels: Tensor) -> list[Finding]:
    """Look for what makes attacks misleading, on one batch; the model is left as it was.

    Args:
        model: Pictures in [0, 1] → logits.
        images: (B, 3, H, W); a few will do.
        labels: (B,) int64.

    Returns:
        A finding for each thing that is wrong; none if all is well.
    """
    found: list[Finding | None] = [*plain_findings(model, images)]
    with attack_mode(model), warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)  # they are among the findings already
        found += [_stochastic(model, images), *_gradients(model, images, labels)]
        found.append(_large_epsilon(model, images, labels))
    return [finding for finding in found if finding is not None]


@torch.no_grad()
def _stochastic(model: nn.Module, images: Tensor) -> Finding | None:
    first, second = model(images), model(images)
    change = float((first - second).abs().max())
    if change <= 1e-3 * max(1e-6, float(first.abs().max())):
        return None
    return Finding(
        "stochastic",
        f"the same pictures give logits that differ by {change:.3g} in evaluation mode, so one "
        "gradient says little; average several forward passes inside the model, or use "
        "autoattack with version rand",
    )


def _gradients(model: nn.Module, images: Tensor, labels: Tensor) -> list[Finding]:
    """Gradients that vanish, and those that are lost to rounding, for two losses."""
    found = []
    entropy = _gradient(model, images, lambda z: cross_entropy(z, labels))
    gap = _gradient(model, images, lambda z: margin(z, labels))
    empty = (entropy.flatten(1) == 0).all(1)
    dead = (gap.flatten(1) == 0).all(1)
    if bool(dead.any()):
        found.append(
            Finding(
                "vanishing gradients",
                f"the logits of {int(dead.sum())} of {len(images)} pictures do not depend on the "
                "pixels by their gradient (gradient masking: rounding, thresholds, or detached "
                "inputs inside the model); gradient attacks are blind then, trust square only",
            )
        )
    if bool((empty & ~dead).any()):
        found.append(
            Finding(
                "vanishing gradients",
                f"the cross entropy of {int((empty & ~dead).sum())} of {len(images)} pictures is "
                "saturated and its gradient is 0; use apgd_t, or pgd with loss dlr, which do not "
                "depend on the scale of logits",
            )
        )
    rows = ~empty
    lost = float((entropy[rows] == 0).float().mean()) if bool(rows.any()) else 0.0
    if lost > LOST_SHARE:
        found.append(
            Finding(
                "lost perturbations",
                f"{lost:.2%} of the gradient's values are 0 or not finite, more than "
                f"{LOST_SHARE:.1%}: their pixels stay unperturbed (sign 0); attack in float32 or "
                "bfloat16",
            )
        )
    return found


def _gradient(model: nn.Module, images: Tensor, loss: Loss) -> Tensor:
    _, _, gradient = loss_and_gradient(model, images, loss)
    return gradient.nan_to_num(0.0, 0.0, 0.0)


def _large_epsilon(model: nn.Module, images: Tensor, labels: Tensor) -> Finding | None:
    """At half the range of pixels any picture can be made gray, so nothing may withstand."""
    few = slice(0, 16)
    attack = PGD(epsilon=LARGE_EPSILON, steps=20, loss="margin")
    generator = torch.Generator().manual_seed(0)
    perturbed = attack(model, images[few], labels[few], generator=generator)
    with torch.no_grad():
        withstand = int((model(perturbed).argmax(1) == labels[few]).sum())
    total = len(perturbed)
    classes = int(model(images[:1]).shape[1]) if total else 1
    if withstand <= max(1.0, 2 * total / classes):
        return None
    return Finding(
        "gradient masking",
        f"{withstand} of {total} pictures withstand PGD at epsilon {LARGE_EPSILON}, where any "
        "picture can be made gray: the gradients do not lead anywhere; compare with square, and "
        "do not report what gradient attacks say",
    )


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
