"""What can be said of a model and its images before an attack, at no cost."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable

from torch import Tensor, nn


class AttackWarning(UserWarning):
    """A result of an attack may not mean what it seems to mean."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check that found something.

    Attributes:
        name: Of the check.
        message: What was found, why it matters, what to do.
    """

    name: str
    message: str


def warn(findings: Iterable[Finding]) -> None:
    """Issue the findings as warnings."""
    for finding in findings:
        warnings.warn(finding.message, AttackWarning, stacklevel=3)


def plain_findings(model: nn.Module, images: Tensor) -> list[Finding]:
    """Look at the model's mode and the images' range; no forward pass is made."""
    return [f for f in (_train_mode(model), _range(images)) if f is not None]


def _train_mode(model: nn.Module) -> Finding | None:
    if not any(part.training for part in model.modules()):
        return None
    return Finding(
        "train mode",
        "the model is in train mode, where dropout and batch statistics change its answers; it is "
        "attacked in evaluation mode and put back afterwards, so call model.eval() to use what "
        "was measured",
    )


def _range(images: Tensor) -> Finding | None:
    low, high = float(images.min()), float(images.max())
    if low >= 0 and high <= 1:
        return None
    return Finding(
        "range",
        f"pictures are in [{low:.3g}, {high:.3g}] and not in [0, 1], so epsilon has another unit "
        "and results are cut to [0, 1]; pass pictures before normalisation (it belongs into the "
        "model)",
    )
