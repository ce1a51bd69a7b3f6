"""Learning rate schedules: a new one is one small class here."""

from __future__ import annotations

import bisect
import dataclasses
import math
from typing import Annotated, Literal, Protocol

from vitreous.errors import VitreousError
from vitreous.ranges import SHARE, above, at_least
from vitreous.registry import Registry


class Schedule(Protocol):
    """Frozen settings and a call."""

    def __call__(self, base: float, epoch: float, epochs: int) -> float:
        """Learning rate at a point of the training.

        Args:
            base: The optimiser's own learning rate.
            epoch: Epochs done, with the fraction of the present one (3.5 = halfway the fourth).
            epochs: Epochs in all.
        """
        ...


SCHEDULES: Registry[type[Schedule]] = Registry("schedule")


@SCHEDULES.register("constant")
@dataclasses.dataclass(frozen=True)
class Constant:
    """The learning rate stays."""

    def __call__(self, base: float, epoch: float, epochs: int) -> float:
        """Return the base."""
        return base


@SCHEDULES.register("step")
@dataclasses.dataclass(frozen=True)
class StepDecay:
    """`base · factor^(epoch // every)`: RobustViT's, with 0.85 every 2 epochs.

    Attributes:
        factor: Multiplies the learning rate.
        every: Epochs between two steps.
    """

    factor: Annotated[float, above(0)] = 0.85
    every: Annotated[int, at_least(1)] = 2

    def __call__(self, base: float, epoch: float, epochs: int) -> float:
        """Return the decayed learning rate."""
        return base * self.factor ** (int(epoch) // self.every)


@SCHEDULES.register("cosine")
@dataclasses.dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine.

    Attributes:
        warmup: Epochs of warm-up.
        final: Share of the base at the end.
    """

    warmup: Annotated[float, at_least(0)] = 0.0
    final: Annotated[float, SHARE] = 0.0

    def __call__(self, base: float, epoch: float, epochs: int) -> float:
        """Return the learning rate."""
        if epoch < self.warmup:
            return base * epoch / self.warmup
        done = (epoch - self.warmup) / max(epochs - self.warmup, 1e-9)
        share = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return base * (self.final + (1 - self.final) * share)


@SCHEDULES.register("piecewise_linear")
@dataclasses.dataclass(frozen=True)
class PiecewiseLinear:
    """Linear between knots, anew at each step; the optimiser's own learning rate plays no part.

    Attributes:
        epochs: Where the knots are, increasing.
        rates: The learning rate at each.
        past_end: After the last knot: `error`, or `last`: its value.
    """

    epochs: Annotated[tuple[float, ...], at_least(0)]
    rates: Annotated[tuple[float, ...], at_least(0)]
    past_end: Literal["error", "last"] = "error"

    def __post_init__(self) -> None:
        if len(self.epochs) != len(self.rates) or len(self.epochs) < 2:
            raise ValueError(
                f"expected as many rates as epochs, at least two, found {len(self.rates)} and "
                f"{len(self.epochs)}"
            )
        if any(b <= a for a, b in zip(self.epochs, self.epochs[1:])):
            raise ValueError(f"epochs must increase, found {list(self.epochs)}")

    def __call__(self, base: float, epoch: float, epochs: int) -> float:
        """Return the learning rate.

        Raises:
            VitreousError: Past the last knot, unless `past_end` is `last`.
        """
        if epoch > self.epochs[-1] and self.past_end == "error":
            raise VitreousError(
                f"the learning rate is given up to epoch {self.epochs[-1]:g} and epoch {epoch:g} "
                "is asked for; train for fewer epochs, or set schedule.past_end last"
            )
        if epoch >= self.epochs[-1]:
            return self.rates[-1]
        right = max(bisect.bisect_right(self.epochs, epoch), 1)
        x0, x1 = self.epochs[right - 1], self.epochs[right]
        y0, y1 = self.rates[right - 1], self.rates[right]
        return y0 + (y1 - y0) * (epoch - x0) / (x1 - x0)
