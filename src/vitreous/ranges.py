"""Ranges of settings: declared once, at the field, and checked and shown from there.

    batch_size: Annotated[int, at_least(1)] = 8

Every number that a range is declared for must be finite.
"""

from __future__ import annotations

import dataclasses
import math

from vitreous.errors import VitreousError


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting takes.

    Attributes:
        at_least: Smallest number, itself included.
        above: Bound below all numbers, itself excluded.
        at_most: Largest number, itself included.
        below: Bound above all numbers, itself excluded.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        """Whether a number is finite and within the bounds."""
        if isinstance(value, int) and abs(value) > LARGEST:
            return False
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """The range in words, for messages and `--help`."""
        bounds = (
            ("at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        )
        words = [f"{word} {bound:.15g}" for word, bound in bounds if bound is not None]
        return " and ".join(words) or "a finite number"

    def check(self, value: object, where: str) -> None:
        """Check a number, or each of several; what is no number (None, text) has no range.

        Raises:
            VitreousError: For a number outside, NaN or an infinity.
        """
        if isinstance(value, (tuple, list)):
            for index, part in enumerate(value):
                self.check(part, f"{where}[{index}]")
        elif isinstance(value, (int, float)) and value not in self:
            whole = isinstance(value, int) and abs(value) > LARGEST
            found = "a whole number of more than 64 bits" if whole else value
            raise VitreousError(f"{where}: expected {self}, found {found}")


def at_least(bound: float, *, at_most: float | None = None, below: float | None = None) -> Range:
    """Numbers from `bound` on, itself included."""
    return Range(at_least=bound, at_most=at_most, below=below)


def above(bound: float, *, at_most: float | None = None, below: float | None = None) -> Range:
    """Numbers from `bound` on, itself excluded."""
    return Range(above=bound, at_most=at_most, below=below)


LARGEST = 2**63 - 1
FINITE = Range()
SEED = at_least(0, at_most=2**32 - 1)
PIXELS = at_least(1, at_most=16384)
SHARE = at_least(0, at_most=1)
PART = at_least(0, below=1)
INDEX = at_least(0, at_most=65535)
READERS = at_least(0, at_most=512)
BATCH = at_least(1, at_most=65536)
STEPS = at_least(1, at_most=1_000_000)
