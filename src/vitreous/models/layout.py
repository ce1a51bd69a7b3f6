"""How tokens mix in one forward pass: all that a relevance method must know of a network.

A `Layout` has the token streams, which stream gives the queries and which the keys of each
attention layer, and the row from which relevance starts (what the head reads).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

Network = Any
"""A network of timm, or a part of one: its modules say no types."""


WITHOUT_ATTENTION = (
    "these methods work: input_gradient, integrated_gradients, smooth_grad, occlusion"
)
"""What a refusal says where no method that reads attention or tokens holds for a network."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """Tokens of one branch: `prefix` tokens (CLS, distillation, registers), then the grid.

    Attributes:
        prefix: Number of tokens before the patches.
        grid: Rows and columns of patches.
        start: What the head reads of each token (tokens,), not negative.
        cover: Share of the image's height and width that the grid covers.
        centered: It lies about the centre; otherwise it begins at the first pixel, and what is left
            of the image at the end is in no patch.
    """

    prefix: int
    grid: tuple[int, int]
    start: Tensor
    cover: tuple[float, float] = (1.0, 1.0)
    centered: bool = True

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.prefix + self.grid[0] * self.grid[1]


@dataclasses.dataclass(frozen=True)
class TokenMixing:
    """Between which streams one attention layer moves information.

    Attributes:
        queries: The stream whose tokens are the queries, and are updated.
        keys: The stream whose tokens are the keys and values: the same one in self-attention.
            In cross-attention the CLS token of `queries` is the only query, and the keys are that
            token and the patches of `keys`.
        pools: The layer is a head that pools by attention: a learned query, which is all of the
            stream `queries`, reads the last tokens of `keys` and not itself.
        signed: Its maps can have negative weights: heads are mixed behind the softmax.
    """

    queries: int
    keys: int
    pools: bool = False
    signed: bool = False

    @property
    def crosses(self) -> bool:
        """Whether it is cross-attention."""
        return self.queries != self.keys and not self.pools


@dataclasses.dataclass(frozen=True)
class Layout:
    """Streams and attention layers (by module name within the network) of one forward pass."""

    streams: tuple[Stream, ...]
    layers: dict[str, TokenMixing]

    def fits(self, mixing: TokenMixing, shape: tuple[int, int], queries: slice) -> bool:
        """Whether a map of (queries, keys) is one over the tokens that a layer should see.

        Later layers of a cross-attention see the CLS token alone.
        """
        own, other = self.streams[mixing.queries], self.streams[mixing.keys]
        if mixing.pools:
            return shape[0] == 1 and shape[1] in (other.tokens, other.tokens - other.prefix)
        rows = 1 if mixing.crosses else own.tokens
        keys = (1, 1 + other.tokens - other.prefix) if mixing.crosses else (own.tokens,)
        return shape[0] == len(range(rows)[queries]) and shape[1] in keys
