"""Lines for a log that is not a terminal: where a run is, every so often."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

EVERY = 30.0


class PlainLog:
    """Says every so often where a run is.

    Args:
        total: Optimiser steps of the whole run.
        step: Steps done before.
        batch_size: Images a step.
        every: Seconds between two lines.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        total: int,
        step: int,
        batch_size: int,
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total, self.batch_size, self.every, self.clock = total, batch_size, every, clock
        self.last_step, self.last_time = step, clock()

    def line(self, step: int, figures: Mapping[str, float]) -> str | None:
        """What to print after a step: loss, learning rate, images a second, time left; or None.

        Args:
            step: Steps done.
            figures: Of the step, among them `loss` and `lr`.
        """
        now = self.clock()
        passed = now - self.last_time
        if passed < self.every or step <= self.last_step:
            return None
        rate = (step - self.last_step) / passed
        self.last_step, self.last_time = step, now
        left = clock_text((self.total - step) / rate)
        return (
            f"step {step} of {self.total}: loss {figures['loss']:.4g}, lr {figures['lr']:.3g}, "
            f"{rate * self.batch_size:.3g} images/s, {left} left"
        )


def clock_text(seconds: float) -> str:
    """Seconds as `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
