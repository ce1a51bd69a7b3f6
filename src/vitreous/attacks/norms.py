"""Balls of perturbations: distances, projections, random starts, steepest steps."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vitreous.attacks.randomness import draw

Norm = Literal["linf", "l2"]


def radius_text(epsilon: float, norm: str = "linf") -> str:
    """Write a radius: `2/255` for L∞; an L2 radius is a length over all values in [0, 1].

    Examples:
        >>> radius_text(2 / 255), radius_text(0.5, "l2")
        ('2/255', '0.5 (L2)')
    """
    return f"{255 * epsilon:.3g}/255" if norm == "linf" else f"{epsilon:.3g} (L2)"


def norms(perturbation: Tensor, norm: Norm) -> Tensor:
    """Size (B,) of each perturbation (B, ...) in the norm."""
    rows = perturbation.flatten(1)
    return rows.abs().amax(1) if norm == "linf" else rows.norm(dim=1)


def project(perturbation: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Nearest perturbation (B, ...) whose norm is at most `epsilon`."""
    if norm == "linf":
        return perturbation.clamp(-epsilon, epsilon)
    size = _column(norms(perturbation, norm), perturbation)
    return perturbation * (epsilon / size.clamp_min(1e-12)).clamp_max(1.0)


def random_start(
    like: Tensor, epsilon: float, norm: Norm, generator: torch.Generator | None = None
) -> Tensor:
    """Draw perturbations of the shape of `like` (B, ...) uniformly from the ball.

    Args:
        like: Images; gives shape, type and device.
        epsilon: Radius, in units of the images.
        norm: Of the ball.
        generator: Source of randomness; torch's global one by default.
    """
    if norm == "linf":
        return (2 * _uniform(like, like.shape, generator) - 1) * epsilon
    # A normal vector has a uniform direction; the d-th root makes the radius uniform by volume.
    direction = draw(torch.randn, like.shape, like, generator)
    radius = _uniform(like, like.shape[:1], generator) ** (1 / direction[0].numel())
    size = norms(direction, norm).clamp_min(1e-12)
    return direction * _column(epsilon * radius / size, direction)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Perturbation (B, ...) of norm 1 along which the loss grows fastest to first order."""
    if norm == "linf":
        return gradient.sign()
    return gradient / _column(norms(gradient, norm).clamp_min(1e-12), gradient)


def within_ball(images: Tensor, perturbed: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Bring perturbed images back into the ball around `images` and into [0, 1].

    Both hold afterwards: cutting to [0, 1] only shortens a perturbation of an image in [0, 1].
    """
    return (images + project(perturbed - images, epsilon, norm)).clamp(0, 1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _uniform(like: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return draw(torch.rand, shape, like, generator)
