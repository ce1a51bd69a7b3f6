"""Where attention is in each family of models, and how tokens mix there.

A `Layout` is all that a relevance method must know of one forward pass: its token streams, which
stream gives the queries and which the keys of each attention layer, and the row from which
relevance starts (what the head reads). Plain Vision Transformers have one stream; CrossViT has
two, which meet in layers of cross-attention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from timm.models.crossvit import CrossVit
from torch import Tensor, nn

from vitreous.errors import UnsupportedModelError

# Libraries of whose Vision Transformers attention is not recorded yet.
OTHER_LIBRARIES = {
    "torchvision.models.vision_transformer": "torchvision",
    "transformers.models": "Hugging Face",
    "open_clip": "open_clip",
}


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
class TokenMixing:
    """Between which streams one attention layer moves information.

    Attributes:
        queries: The stream whose tokens are the queries, and are updated.
        keys: The stream whose tokens are the keys and values: the same one in self-attention.
            In cross-attention the CLS token of `queries` is the only query, and the keys are that
            token and the patches of `keys`.
    """

    queries: int
    keys: int

    @property
    def crosses(self) -> bool:
        """Whether it is cross-attention."""
        return self.queries != self.keys


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
        rows = 1 if mixing.crosses else own.tokens
        keys = (1, 1 + other.tokens - other.prefix) if mixing.crosses else (own.tokens,)
        return shape[0] == len(range(rows)[queries]) and shape[1] in keys


Family = Callable[[nn.Module, tuple[int, int]], Layout | None]


def attention_layers(module: nn.Module) -> dict[str, Any]:
    """Find the layers that apply a dropout to an attention map, by name, in forward order."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(getattr(layer, "attn_drop", None), nn.Module)
    }


def unsupported(module: nn.Module, reason: str) -> UnsupportedModelError:
    """Say of a model that its attention cannot be used: why, and what to do."""
    inner = getattr(module, "net", module)
    kind = type(inner)
    for prefix, library in OTHER_LIBRARIES.items():
        if f"{kind.__module__}.".startswith(f"{prefix}."):
            return UnsupportedModelError(
                f"{library}'s {kind.__name__} is not yet supported: attention is recorded in "
                "timm's layers only; load the same architecture from timm (for example "
                "vit_base_patch16_224); these methods work: input_gradient"
            )
    return UnsupportedModelError(f"{kind.__name__} {reason}; these methods work: input_gradient")


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
    raise unsupported(
        net,
        "is not a Vision Transformer whose tokens stay in place, so attention relevance does not "
        "hold for it",
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
    return Layout((stream,), {name: TokenMixing(0, 0) for name in names})


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
        layers[name] = TokenMixing(i, i if part == "blocks" else (i + 1) % count)
    return Layout(tuple(streams), layers)
