"""What attacks make large: one number an image, higher where the model is closer to fooled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import VitreousError

LossName = Literal["cross_entropy", "margin", "dlr"]


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Cross entropy (B,) with the label; with targets, its negative with the target."""
    if targets is None:
        return F.cross_entropy(logits, labels, reduction="none")
    return -F.cross_entropy(logits, targets, reduction="none")


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Largest other logit minus the label's (B,); with targets, the target's minus the others'.

    Positive where the goal is reached.
    """
    goal = labels if targets is None else targets
    own = logits.gather(1, goal[:, None])[:, 0]
    other = logits.scatter(1, goal[:, None], -torch.inf).amax(1)
    return other - own if targets is None else own - other


def dlr(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Difference of logits ratio (B,), free of the scale of the logits (Croce and Hein 2020).

    Untargeted (eq. 6), with z sorted falling: −(z_y − max_{i≠y} z_i) / (z_1 − z_3); with targets
    (eq. 7): −(z_y − z_t) / (z_1 − (z_3 + z_4) / 2).

    Raises:
        VitreousError: For fewer than 3 classes, or 4 with targets.
    """
    needed = 3 if targets is None else 4
    if logits.shape[1] < needed:
        raise VitreousError(
            f"the DLR loss needs {needed} classes, the model has {logits.shape[1]}; use apgd_ce"
        )
    top = logits.topk(needed, dim=1).values
    if targets is None:
        return margin(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)
    rows = torch.arange(len(logits), device=logits.device)
    gap = logits[rows, targets] - logits[rows, labels]
    return gap / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)


LOSSES: dict[LossName, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
}
