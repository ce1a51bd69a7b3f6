"""Simple images drawn as arithmetic on whole batches: outlines of objects, and patterns.

All functions work on coordinates in units of the image's half side: x to the right, y down,
both in [-1, 1]. An outline is a function that is negative inside the object and positive outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Outline = Callable[[Tensor, Tensor], Tensor]


def _angle(x: Tensor, y: Tensor, points: int) -> Tensor:
    """Angle to the nearest of `points` equally spaced directions, the first one upwards."""
    sector = 2 * math.pi / points
    turned = torch.atan2(x, -y)
    return turned - sector * torch.round(turned / sector)


def _polygon(x: Tensor, y: Tensor, sides: int, radius: float) -> Tensor:
    folded = _angle(x, y, sides) if sides % 2 else _angle(-x, -y, sides)
    near = folded.abs() - math.pi / sides
    return torch.hypot(x, y) * torch.cos(near) - radius * math.cos(math.pi / sides)


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(x.abs() - width, y.abs() - height)


def _disc(x: Tensor, y: Tensor, radius: float) -> Tensor:
    return torch.hypot(x, y) - radius


def star(x: Tensor, y: Tensor) -> Tensor:
    """A star with five points."""
    angle = _angle(x, y, 5).abs()
    radius = torch.hypot(x, y)
    px, py = radius * torch.sin(angle), radius * torch.cos(angle)
    inner, tip = 0.44, 1.05
    nx, ny = tip - inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5)
    return (px * nx + (py - tip) * ny) / math.hypot(nx, ny)


def heart(x: Tensor, y: Tensor) -> Tensor:
    """A heart."""
    diamond = (x.abs() + (y - 0.05).abs()) / math.sqrt(2) - 0.56
    lobes = torch.hypot(x.abs() - 0.396, y + 0.346) - 0.56
    return torch.minimum(diamond, lobes)


def moon(x: Tensor, y: Tensor) -> Tensor:
    """A crescent."""
    return torch.maximum(_disc(x, y, 0.92), -_disc(x - 0.5, y + 0.12, 0.74))


def drop(x: Tensor, y: Tensor) -> Tensor:
    """A drop of water."""
    below = _disc(x, y - 0.3, 0.62)
    slope = x.abs() * 0.87 - (y + 1.02) * 0.5
    return torch.minimum(below, torch.maximum(slope, y - 0.05))


def cross(x: Tensor, y: Tensor) -> Tensor:
    """A cross with four equal arms."""
    return torch.minimum(_box(x, y, 0.92, 0.31), _box(x, y, 0.31, 0.92))


def ring(x: Tensor, y: Tensor) -> Tensor:
    """A ring."""
    return (torch.hypot(x, y) - 0.66).abs() - 0.25


def flower(x: Tensor, y: Tensor) -> Tensor:
    """A flower with six petals."""
    angle = _angle(x, y, 6)
    radius = torch.hypot(x, y)
    petal = torch.hypot(radius * torch.sin(angle), radius * torch.cos(angle) - 0.6) - 0.33
    return torch.minimum(petal, radius - 0.64)


def house(x: Tensor, y: Tensor) -> Tensor:
    """A house with a roof."""
    walls = _box(x, y - 0.28, 0.62, 0.57)
    roof = torch.maximum(x.abs() * 0.66 - (y + 0.95) * 0.75, y + 0.05)
    return torch.minimum(walls, roof)


def fish(x: Tensor, y: Tensor) -> Tensor:
    """A fish that swims to the left."""
    body = torch.hypot(x + 0.2, y.abs() + 0.42) - 0.88
    tail = torch.maximum(y.abs() - 0.95 * (x - 0.3), x - 0.95)
    return torch.minimum(body, tail)


def arrow(x: Tensor, y: Tensor) -> Tensor:
    """An arrow that points upwards."""
    head = torch.maximum(x.abs() * 0.78 - (y + 0.98) * 0.63, y + 0.02)
    return torch.minimum(head, _box(x, y - 0.3, 0.27, 0.62))


def tree(x: Tensor, y: Tensor) -> Tensor:
    """A fir tree."""
    top = torch.maximum(x.abs() * 0.84 - (y + 1.02) * 0.55, y + 0.12)
    low = torch.maximum(x.abs() * 0.8 - (y + 0.62) * 0.6, y - 0.58)
    return torch.minimum(torch.minimum(top, low), _box(x, y - 0.6, 0.17, 0.38))


def mushroom(x: Tensor, y: Tensor) -> Tensor:
    """A mushroom."""
    cap = torch.maximum(torch.hypot(x * 0.88, y - 0.05) - 0.82, y - 0.06)
    return torch.minimum(cap, _box(x, y - 0.36, 0.27, 0.58))


def gear(x: Tensor, y: Tensor) -> Tensor:
    """A toothed wheel with a hole."""
    angle = _angle(x, y, 8)
    radius = torch.hypot(x, y)
    tooth = torch.maximum((radius * torch.sin(angle)).abs() - 0.16, radius - 0.95)
    wheel = torch.minimum(radius - 0.72, tooth)
    return torch.maximum(wheel, 0.27 - radius)


def triangle(x: Tensor, y: Tensor) -> Tensor:
    """A triangle with its tip upwards."""
    return _polygon(x, y - 0.2, 3, 1.06)


def square(x: Tensor, y: Tensor) -> Tensor:
    """A square."""
    return _box(x, y, 0.76, 0.76)


def ball(x: Tensor, y: Tensor) -> Tensor:
    """A disc."""
    return _disc(x, y, 0.86)


OUTLINES: dict[str, Outline] = {
    outline.__name__: outline
    for outline in (
        star, heart, moon, drop, cross, house, fish, mushroom,
        ring, flower, arrow, tree, gear, triangle, square, ball,
    )
}  # fmt: skip


def waves(x: Tensor, y: Tensor) -> Tensor:
    """Wavy bands."""
    return torch.sin(9.4 * (y + 0.16 * torch.sin(6.3 * x)))


def stripes(x: Tensor, y: Tensor) -> Tensor:
    """Straight bands."""
    return torch.sin(9.4 * x)


def checks(x: Tensor, y: Tensor) -> Tensor:
    """A chequerboard."""
    return 1.6 * torch.sin(7.9 * x) * torch.sin(7.9 * y)


def dots(x: Tensor, y: Tensor) -> Tensor:
    """Dots on a grid."""
    return torch.cos(10.5 * x) + torch.cos(10.5 * y) - 0.8


def rings(x: Tensor, y: Tensor) -> Tensor:
    """Rings around a point."""
    return torch.sin(10.5 * torch.hypot(x, y))


def weave(x: Tensor, y: Tensor) -> Tensor:
    """A lattice of thin lines."""
    return 1.2 - 2.2 * torch.minimum(torch.sin(7.9 * x).abs(), torch.sin(7.9 * y).abs()) * 1.6


def zigzag(x: Tensor, y: Tensor) -> Tensor:
    """Zigzag bands."""
    saw = (2 * (x * 1.3 - torch.floor(x * 1.3 + 0.5))).abs()
    return torch.sin(9.4 * (y + 0.38 * saw))


def clouds(x: Tensor, y: Tensor) -> Tensor:
    """Soft spots of several sizes."""
    a = torch.sin(3.1 * x + 2.3 * torch.sin(2.1 * y)) + torch.sin(
        3.7 * y + 1.9 * torch.sin(2.7 * x)
    )
    return 0.7 * a + 0.5 * torch.sin(7.1 * x + 3.0 * torch.cos(5.3 * y))


PATTERNS: dict[str, Outline] = {
    pattern.__name__: pattern
    for pattern in (waves, stripes, checks, dots, rings, weave, zigzag, clouds)
}


def hue_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Convert colours (N,) in [0, 1] each from hue, saturation and value to RGB (N, 3)."""
    offset = torch.tensor([5.0, 3.0, 1.0])
    k = (offset + hue[:, None] * 6) % 6
    wedge = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * wedge)
