"""Proposals of the Square attack in an L2 ball (Andriushchenko et al. 2020, Algorithm 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitreous.attacks.norms import norms, within_ball
from vitreous.attacks.randomness import draw

TINY = 1e-12
TILES = 5
SMALLEST = 3


def tiled_start(clean: Tensor, epsilon: float, source: torch.Generator | None) -> Tensor:
    """Cover images (B, 3, H, W) with tiles of pairs of bumps of random sign, ε long in all."""
    height, width = clean.shape[-2:]
    side = max(1, min(height, width) // TILES)
    perturbation = torch.zeros_like(clean)
    for top in range((height % side) // 2, height - side + 1, side):
        for left in range((width % side) // 2, width - side + 1, side):
            tile = _signed_pairs(clean, side, source)
            perturbation[:, :, top : top + side, left : left + side] = tile
    return within_ball(clean, clean + _of_length(perturbation, epsilon), epsilon, "l2")


def moved_mass(
    clean: Tensor, now: Tensor, epsilon: float, share: float, source: torch.Generator | None
) -> Tensor:
    """Take the perturbation out of one random window of each image and add a pair in another.

    The second window gets, channel by channel, the length that both had and what was left of the
    ball; so the whole stays ε long.

    Args:
        clean: (B, 3, H, W).
        now: The same, perturbed.
        epsilon: Radius.
        share: Share of the image that a window covers.
        source: Source of randomness.
    """
    channels, height, width = clean.shape[1:]
    side = max(round((share * height * width) ** 0.5), SMALLEST) | 1
    side = min(side, height, width)
    perturbation = now - clean
    to, away = (_window(clean, side, source) for _ in range(2))
    union = torch.zeros_like(clean)
    union[to], union[away] = 1.0, 1.0
    room = (epsilon**2 - norms(perturbation, "l2") ** 2).clamp_min(0)[:, None, None, None]
    lengths = ((perturbation * union) ** 2).sum((2, 3), keepdim=True)
    old = perturbation[to]
    mixed = _signed_pairs(clean, side, source) + _unit(old)
    perturbation = perturbation.clone()
    perturbation[away] = 0.0
    perturbation[to] = _unit(mixed) * (room / channels + lengths).sqrt()
    return within_ball(clean, clean + _of_length(perturbation, epsilon), epsilon, "l2")


def bump(height: int, width: int) -> Tensor:
    """A hill (height, width): Σ of 1/(k + 1)² over the squares of radius k that hold a pixel."""
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    distance = torch.maximum(rows.abs()[:, None], columns.abs()[None])
    count = max(height // 2, width // 2) + 1
    terms = 1 / torch.arange(1, count + 1, dtype=torch.float32) ** 2
    return terms.flip(0).cumsum(0).flip(0)[distance]


def pair(side: int) -> Tensor:
    """A hill over a hollow (side, side), each half and the whole of length 1."""
    upper, lower = bump(side // 2, side), bump(side - side // 2, side)
    both = torch.cat([upper / upper.norm().clamp_min(TINY), -lower / lower.norm()])
    return both / both.norm()


def _signed_pairs(like: Tensor, side: int, source: torch.Generator | None) -> Tensor:
    """Pairs (B, 3, side, side): upright or lying for each image, of random sign by channel."""
    batch, channels = like.shape[:2]
    upright = pair(side).to(like)
    lying = draw(torch.randint, (batch, 1, 1, 1), like, source, 0, 2) > 0
    signs = 2 * draw(torch.randint, (batch, channels, 1, 1), like, source, 0, 2) - 1
    return torch.where(lying, upright.T, upright) * signs


def _window(like: Tensor, side: int, source: torch.Generator | None) -> tuple[Tensor, ...]:
    """Index of a random window in each image, for reading and writing (B, 3, side, side)."""
    batch, channels, height, width = like.shape
    reach = torch.arange(side, device=like.device)
    top, left = (
        draw(torch.randint, (batch, 1), like, source, 0, length - side + 1).long() + reach
        for length in (height, width)
    )
    rows = torch.arange(batch, device=like.device)[:, None, None, None]
    planes = torch.arange(channels, device=like.device)[None, :, None, None]
    return rows, planes, top[:, None, :, None], left[:, None, None, :]


def _unit(values: Tensor) -> Tensor:
    """Each channel (…, H, W) at length 1."""
    return values / (values**2).sum((-2, -1), keepdim=True).sqrt().clamp_min(TINY)


def _of_length(perturbation: Tensor, epsilon: float) -> Tensor:
    size = norms(perturbation, "l2").clamp_min(TINY)
    return perturbation * (epsilon / size)[:, None, None, None]
