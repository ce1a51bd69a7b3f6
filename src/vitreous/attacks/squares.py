"""Proposals of the Square attack: stripes and squares for L∞, pairs of windows for L2.

Each function draws all of its randomness from one generator, a window of its own for each image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitreous.attacks.norms import inside, norms

Random = torch.Generator | None
TILES = 5


def linf_start(clean: Tensor, epsilon: float, random: Random) -> Tensor:
    """Images (B, C, H, W) under vertical stripes of ±ε, one pixel wide (Algorithm 1, L∞)."""
    stripes = _signs(clean[:, :, :1, :], random).expand_as(clean)
    return (clean + epsilon * stripes).clamp(0, 1)


def linf_proposal(clean: Tensor, now: Tensor, side: int, epsilon: float, random: Random) -> Tensor:
    """Move one random square of each image by ±2ε a channel, back into the ball (Algorithm 2)."""
    height, width = clean.shape[-2:]
    side = max(1, min(side, height - 1, width - 1))
    rows = _interval(clean, height, side, random)[:, None, :, None]
    columns = _interval(clean, width, side, random)[:, None, None, :]
    move = 2 * epsilon * _signs(clean[:, :, :1, :1], random)
    return inside(clean, now + move * rows * columns, epsilon, "linf")


def l2_start(clean: Tensor, epsilon: float, random: Random) -> Tensor:
    """Images (B, C, H, W) under a grid of bumps of random sign, at distance ε."""
    height, width = clean.shape[-2:]
    side = max(1, min(height, width) // TILES)
    signs = _signs(clean[:, :, : height // side, : width // side], random)
    tiles = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
    bump = _bump(side, random).to(clean).repeat(height // side, width // side)
    perturbation = torch.zeros_like(clean)
    top, left = (height - bump.shape[0]) // 2, (width - bump.shape[1]) // 2
    perturbation[..., top : top + bump.shape[0], left : left + bump.shape[1]] = tiles * bump
    size = norms(perturbation, "l2").view(-1, 1, 1, 1)
    return (clean + epsilon * perturbation / size).clamp(0, 1)


def l2_proposal(clean: Tensor, now: Tensor, side: int, epsilon: float, random: Random) -> Tensor:
    """Move the mass of two random windows of each image into one of them (Algorithm 3).

    The window that is kept becomes a bump of random sign added to what is there, with all the
    norm that both windows had and that the ball leaves; the other one is cleared.
    """
    height, width = clean.shape[-2:]
    side = min(max(side + (side + 1) % 2, 3), height, width)
    perturbation = now - clean
    kept, cleared = (_window(clean, side, random) for _ in range(2))
    both = torch.zeros_like(clean, dtype=torch.bool)
    both[kept] = both[cleared] = True
    mass = (perturbation * both).square().sum((2, 3), keepdim=True)
    unused = (epsilon**2 - perturbation.square().sum((1, 2, 3), keepdim=True)).clamp_min(0)
    signs = _signs(clean[:, :, :1, :1], random)
    pattern = _unit(perturbation[kept]) + signs * _bump(side, random).to(clean)
    perturbation[cleared] = 0.0
    perturbation[kept] = _unit(pattern) * (mass + unused / clean.shape[1]).sqrt()
    return inside(clean, clean + perturbation, epsilon, "l2")


def _bump(side: int, random: Random) -> Tensor:
    """A square (side, side) of norm 1: a pyramid beside its negative, side by side or stacked."""
    half = side // 2
    bump = torch.cat([_pyramid(half, side), -_pyramid(side - half, side)])
    bump = bump / bump.norm()
    device = "cpu" if random is None else random.device
    turned = bool(torch.randint(0, 2, (), generator=random, device=device))
    return bump.T if turned else bump


def _pyramid(height: int, width: int) -> Tensor:
    """Rings that grow towards the centre: Σ 1/(n + 1 - k)² over the rings k around a pixel."""
    n = height // 2
    ring = torch.minimum(_to_border(height)[:, None], _to_border(width)[None])
    steps = torch.tensor([1.0 / (n + 1 - k) ** 2 for k in range(n + 1)]).cumsum(0)
    return steps[ring]


def _to_border(length: int) -> Tensor:
    """How far each place (length,) is from the nearer end."""
    places = torch.arange(length)
    return torch.minimum(places, length - 1 - places)


def _unit(values: Tensor) -> Tensor:
    """Values (B, C, side, side) with norm 1 in each channel, zeros as they are."""
    return values / values.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-12)


def _window(like: Tensor, side: int, random: Random) -> tuple[Tensor, ...]:
    """Index of a random window (B, C, side, side) of each image."""
    count, channels, height, width = like.shape
    top, left = _first(like, height - side, random), _first(like, width - side, random)
    along = torch.arange(side, device=like.device)
    return (
        torch.arange(count, device=like.device).view(-1, 1, 1, 1),
        torch.arange(channels, device=like.device).view(1, -1, 1, 1),
        (top + along).view(count, 1, side, 1),
        (left + along).view(count, 1, 1, side),
    )


def _interval(like: Tensor, length: int, side: int, random: Random) -> Tensor:
    """Indicator (B, length) of an interval of `side` pixels at a random place."""
    place = torch.arange(length, device=like.device)[None] - _first(like, length - side, random)
    return ((place >= 0) & (place < side)).to(like.dtype)


def _first(like: Tensor, last: int, random: Random) -> Tensor:
    """A random place (B, 1) from 0 to `last`, inclusive."""
    device = like.device if random is None else random.device
    first = torch.randint(0, last + 1, (len(like), 1), generator=random, device=device)
    return first.to(like.device)


def _signs(like: Tensor, random: Random) -> Tensor:
    device = like.device if random is None else random.device
    bits = torch.randint(0, 2, like.shape, generator=random, device=device)
    return (2 * bits - 1).to(like.device, like.dtype)
