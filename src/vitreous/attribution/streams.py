"""Where relevance goes between streams of tokens: what a layer's queries give, its keys receive.

One stream sends to itself; in cross-attention a CLS token sends to itself and to the patches of
another stream (CaiT's is all of its stream); a head that pools sends from a query of its own.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vitreous.models.layout import TokenMixing


def held_by(mixing: TokenMixing, held: slice) -> slice:
    """Which tokens of a layer's query stream ask: in cross-attention the CLS token alone."""
    return slice(0, 1) if mixing.crosses else held


def received_by(rows: list[Tensor], mixing: TokenMixing, received: Tensor) -> list[Tensor]:
    """What one layer adds to each stream's row (B, tokens), of what its keys receive (B, K)."""
    added = [row.new_zeros(()).expand_as(row) for row in rows]
    own, other = mixing.queries, mixing.keys
    if mixing.pools:
        added[other] = _at_the_end(received, rows[other])
    elif mixing.crosses:
        added[own] = F.pad(received[:, :1], (0, rows[own].shape[1] - 1))
        added[other] = _at_the_end(received[:, 1:], rows[other])
    else:
        added[own] = received
    return added


def _at_the_end(values: Tensor, row: Tensor) -> Tensor:
    """Values at the last tokens of a row; zeros before them."""
    return F.pad(values, (row.shape[1] - values.shape[1], 0))
