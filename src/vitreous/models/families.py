"""How tokens mix in each family of models: all that a relevance method must know of it.

A `Layout` describes one forward pass: its token streams, which stream each attention layer reads
and writes, and the row from which relevance starts (what the head reads). Plain Vision
Transformers have one stream; CrossViT has two, which meet in fusion layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from timm.models.crossvit import CrossVit
from torch import Tensor, nn

from vitreous.errors import UnsupportedModelError
from vitreous.models.attention import attention_layers


@dataclasses.dataclass(frozen=True)
class Stream:
    """Tokens of one branch: `prefix` tokens (CLS, distillation, registers), then the grid.

    Attributes:
        prefix: Number of tokens before the patches.
        grid: Rows and columns of patches.
        start: What the head reads of each token (tokens,), not negative.
        cover: Share of the picture's height and width that the grid covers, about the centre.
    """

    prefix: int
    grid: tuple[int, int]
    start: Tensor
    cover: tuple[float, float] = (1.0, 1.0)

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.prefix + self.grid[0] * self.grid[1]


@dataclasses.dataclass(frozen=True)
class Mixing:
    """What one attention layer mixes.

    Attributes:
        stream: The stream whose tokens ask (and receive).
        keys: The stream whose patches answer: `stream` itself, or another one in a fusion layer,
            where only the CLS token of `stream` asks and answers beside those patches.
    """

    stream: int
    keys: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """Streams and mixing layers (by module name within the network) of one forward pass."""

    streams: tuple[Stream, ...]
    layers: dict[str, Mixing]


Family = Callable[[nn.Module, tuple[int, int]], Layout | None]


def layout_of(net: nn.Module, image_size: tuple[int, int]) -> Layout:
    """Describe how a network mixes tokens for pictures of a size.

    Raises:
        UnsupportedModelError: If no family fits, or its head reads tokens in a way for which no
            relevance rule is known.
    """
    for family in (crossvit, plain_vit):
        layout = family(net, image_size)
        if layout is not None:
            return layout
    raise UnsupportedModelError(
        f"{type(net).__name__} is not a Vision Transformer whose tokens stay in place, so "
        "attention relevance does not hold for it; these methods work: input_gradient"
    )


def start_row(net: Any, prefix: int, patches: int) -> Tensor:
    """Row that the head reads: CLS (and the distillation token), or the mean of the patches."""
    row = torch.zeros(prefix + patches)
    pool = getattr(net, "global_pool", "token")
    if hasattr(net, "head_dist"):
        row[:2] = 1.0
    elif pool == "token" and prefix > 0:
        row[0] = 1.0
    elif pool == "avg":
        first = 0 if getattr(net, "pool_include_prefix", False) else prefix
        row[first:] = 1.0 / (prefix + patches - first)
    else:
        raise UnsupportedModelError(
            f"the head of this {type(net).__name__} pools tokens by '{pool or 'nothing'}', for "
            "which no relevance rule is known; use a 'token' or 'avg' head (--model.options "
            "'{global_pool: avg}'), or the method input_gradient"
        )
    return row


def plain_vit(net: Any, image_size: tuple[int, int]) -> Layout | None:
    """ViT, DeiT, AugReg, DINOv2/v3, EVA, BEiT, CLIP towers: one stream, self-attention only."""
    names = list(attention_layers(net))
    embed = getattr(net, "patch_embed", None)
    known = hasattr(net, "num_prefix_tokens") and hasattr(embed, "patch_size")
    if not known or not names or any(not n.startswith("blocks.") for n in names):
        return None
    if len({n.split(".")[1] for n in names}) != len(names):
        return None  # parallel attention layers within one block
    grid = _grid(net, embed, image_size)
    prefix = int(net.num_prefix_tokens)
    stream = Stream(prefix, grid, start_row(net, prefix, grid[0] * grid[1]))
    return Layout((stream,), {name: Mixing(0, 0) for name in names})


def _grid(net: Any, embed: Any, image_size: tuple[int, int]) -> tuple[int, int]:
    dynamic = bool(getattr(net, "dynamic_img_size", False))
    if not dynamic and getattr(embed, "grid_size", None) is not None:
        return int(embed.grid_size[0]), int(embed.grid_size[1])
    height, width = embed.patch_size
    return image_size[0] // height, image_size[1] // width


def crossvit(net: Any, image_size: tuple[int, int]) -> Layout | None:
    """CrossViT (Chen et al. 2021): two streams that meet in fusion layers through their CLS.

    In a fusion step the CLS token of branch i attends to itself and to the patches of branch
    i + 1; nothing else moves.
    """
    if not isinstance(net, CrossVit):
        return None
    count = int(net.num_branches)
    streams = []
    embeds: Any = net.patch_embed
    for i, embed in enumerate(embeds):
        size, patch = net.img_size_scaled[i], embed.patch_size
        grid = (size[0] // patch[0], size[1] // patch[1])
        row = start_row(net, 1, grid[0] * grid[1])
        cover = (1.0, 1.0)
        if net.crop_scale and size[0] <= image_size[0] and size[1] <= image_size[1]:
            cover = (size[0] / image_size[0], size[1] / image_size[1])
        streams.append(Stream(1, grid, row, cover))
    layers = {}
    for name in attention_layers(net):
        _, _, part, branch, *_ = name.split(".")
        i = int(branch)
        layers[name] = Mixing(i, i if part == "blocks" else (i + 1) % count)
    return Layout(tuple(streams), layers)
