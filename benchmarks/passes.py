"""What an attack cannot be faster than: the passes of the model that it makes itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

PASSES = ("forward", "forward and backward")


def count(model: nn.Module, call: Callable[[], object]) -> tuple[int, int]:
    """Images that a call passes through a model without a gradient of them, and with one."""
    counted = [0, 0]

    def add(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        counted[given[0].requires_grad and torch.is_grad_enabled()] += len(given[0])

    handle = model.register_forward_pre_hook(add)
    try:
        call()
    finally:
        handle.remove()
    return counted[0], counted[1]


def bare(
    model: nn.Module,
    images: Tensor,
    batch: int,
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Callable[[], None]]:
    """One pass of all images, forward and with the gradient of the images, by `PASSES`."""

    def forward() -> None:
        for part in images.split(batch):
            with torch.no_grad(), context():
                model(part)

    def both() -> None:
        for part in images.split(batch):
            seen = part.clone().requires_grad_()
            with context():
                score = model(seen).amax(1).sum()
            torch.autograd.grad(score, seen)

    return dict(zip(PASSES, (forward, both)))


def floor(
    counted: tuple[int, int], images: int, times: Mapping[str, list[float]], kind: str = ""
) -> list[float]:
    """Seconds of the counted passes in each turn, from those of one pass of all images.

    Args:
        counted: Of `count`.
        images: How many one pass has.
        times: Seconds in each turn; those of the passes are called as in `PASSES`.
        kind: What follows their names there.
    """
    turns = zip(*(times[name + kind] for name in PASSES))
    return [sum(n / images * seconds for n, seconds in zip(counted, turn)) for turn in turns]
