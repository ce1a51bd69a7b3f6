"""Randomness of attacks: one source for a batch, or one for each image."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class _Shared:
    rows: Sequence[int]
    count: int
    source: torch.Generator


_shared: ContextVar[_Shared | None] = ContextVar("shared_draws", default=None)


@contextlib.contextmanager
def shared_draws(
    rows: Sequence[int], count: int, seed: int, device: torch.device
) -> Generator[None]:
    """Draw for a whole batch and keep some rows, so that shares of it draw what the whole does.

    Holds for what is drawn with a row for each of `rows` and without a source of its own.

    Args:
        rows: Which rows of the batch are here.
        count: Rows of the whole batch.
        seed: The same for all shares.
        device: Where it is drawn.
    """
    source = torch.Generator(device).manual_seed(seed)
    token = _shared.set(_Shared(rows, count, source))
    try:
        yield
    finally:
        _shared.reset(token)


class RowGenerators(torch.Generator):
    """A generator for each row of a batch: what a row draws does not depend on its neighbours.

    So an evaluation gives the same whatever the size of its batches, and however it is
    interrupted or shared. Where only one generator can be used it is one of seed `seed`.

    Args:
        seed: Of the whole evaluation.
        generators: One for each row.
    """

    def __new__(cls, *_: object) -> RowGenerators:
        """Make the generator of the batch as a whole."""
        return super().__new__(cls)

    def __init__(self, seed: int, generators: Iterable[torch.Generator]):
        self.generators = list(generators)
        self.manual_seed(seed)

    @classmethod
    def of_seeds(cls, seed: int, seeds: Iterable[int]) -> RowGenerators:
        """Seed a generator for each row.

        Args:
            seed: Of the whole evaluation.
            seeds: What tells one row from another.
        """
        mixed = ((s * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03) % 2**63 for s in seeds)
        return cls(seed, (torch.Generator().manual_seed(s) for s in mixed))

    def __getitem__(self, rows: Tensor) -> RowGenerators:
        """Select rows; their generators go on where they are."""
        return RowGenerators(self.initial_seed(), (self.generators[i] for i in rows.tolist()))


def of_rows(source: torch.Generator | None, rows: Tensor) -> torch.Generator | None:
    """The source of randomness for some rows of a batch."""
    return source[rows] if isinstance(source, RowGenerators) else source


def draw(
    kind: Callable[..., Tensor],
    shape: Sequence[int],
    like: Tensor,
    source: torch.Generator | None,
    *arguments: int,
) -> Tensor:
    """Draw a tensor with a row for each image.

    Args:
        kind: `torch.rand`, `torch.randn` or `torch.randint`.
        shape: (B, ...).
        like: Gives device and type.
        source: Source of randomness; that of `shared_draws`, else torch's global one, by default.
        *arguments: What `kind` takes before the shape.
    """
    if isinstance(source, RowGenerators):
        parts = [kind(*arguments, (1, *shape[1:]), generator=g) for g in source.generators]
        return torch.cat(parts).to(like.device, like.dtype)
    shared = _shared.get()
    if source is None and shared is not None and shape[0] == len(shared.rows):
        whole = (shared.count, *shape[1:])
        kept = kind(*arguments, whole, generator=shared.source, device=shared.source.device)
        return kept[list(shared.rows)].to(like.device, like.dtype)
    device = like.device if source is None else source.device
    values = kind(*arguments, tuple(shape), generator=source, device=device)
    return values.to(like.device, like.dtype)
