"""Families outside timm: Hugging Face transformers, torchvision, open_clip.

Each says what its head reads, and where the patches lie among the tokens; attention is seen on
its way into torch's kernel (`kernel`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.models.hugging_face import input_size
from vitreous.models.kernel import from_transformers, kernel_layers, pooling_heads
from vitreous.models.layout import WITHOUT_ATTENTION, Layout, Network, Stream, TokenMixing
from vitreous.models.towers import TowerClassifier, without_classes

Reading = tuple[int, Tensor]
"""Number of tokens before the patches, and what the head reads of each token."""


def other_family(net: nn.Module, image_size: tuple[int, int]) -> Layout | None:
    """Layout of a network of another library than timm; None where it is none.

    Raises:
        UnsupportedModelError: If it is from such a library and no rule is known for it.
    """
    if (reason := without_classes(net)) is not None:
        raise UnsupportedModelError(reason)
    if from_transformers(net):
        return _hugging_face(net, image_size)
    kind = f"{type(net).__module__}."
    if kind.startswith("torchvision.models.vision_transformer."):
        return _torchvision(net, image_size)
    tower = net[0] if isinstance(net, nn.Sequential) and len(net) else net
    if f"{type(tower).__module__}.".startswith("open_clip.transformer."):
        return _open_clip(net, tower, image_size)
    return None


def _one_stream(
    net: nn.Module, patch: Any, size: tuple[int, int], read: Callable[[int], Reading]
) -> Layout:
    height, width = (patch, patch) if isinstance(patch, int) else patch
    grid = (size[0] // height, size[1] // width)
    whole = size == (grid[0] * height, grid[1] * width)
    # SigLIP has images of 384 pixels and patches of 14: what is left at the end is in none.
    own = from_transformers(net) and size == input_size(net)
    if not (whole or own) or not min(grid):
        raise VitreousError(
            f"{type(net).__name__} has patches of {height} × {width} pixels; an input of "
            f"{size[0]} × {size[1]} is no multiple of them"
        )
    cover = (grid[0] * height / size[0], grid[1] * width / size[1])
    prefix, start = read(grid[0] * grid[1])
    layers = {name: TokenMixing(0, 0) for name in kernel_layers(net)}
    return Layout((Stream(prefix, grid, start, cover, centered=False),), layers)


def leading(read: int, prefix: int) -> Callable[[int], Reading]:
    """A head that reads the first `read` of the `prefix` tokens before the patches."""

    def row(patches: int) -> Reading:
        return prefix, (torch.arange(prefix + patches) < read).float()

    return row


def mean(prefix: int, first: int, leading: int = 0) -> Callable[[int], Reading]:
    """A head that reads the mean of all tokens from `first` on, and the leading ones beside it."""

    def row(patches: int) -> Reading:
        start = torch.zeros(prefix + patches)
        start[first:] = 1.0 / (prefix + patches - first)
        start[:leading] = 1.0
        return prefix, start

    return row


def _beit(config: Any) -> Callable[[int], Reading]:
    return mean(1, 1) if config.use_mean_pooling else leading(1, 1)


def _registers(config: Any) -> Callable[[int], Reading]:
    first = 1 + config.num_register_tokens
    return mean(first, first, leading=1)


# The CLS token and the mean of the patches beside each other are two readings of one head: its
# row is their sum.
HUGGING_FACE: dict[str, Callable[[Any], Callable[[int], Reading]]] = {
    "ViTForImageClassification": lambda _: leading(1, 1),
    "DeiTForImageClassification": lambda _: leading(1, 2),
    "DeiTForImageClassificationWithTeacher": lambda _: leading(2, 2),
    "BeitForImageClassification": _beit,
    "Dinov2ForImageClassification": lambda _: mean(1, 1, leading=1),
    "Dinov2WithRegistersForImageClassification": _registers,
    "CLIPForImageClassification": lambda _: mean(1, 1),
    "SiglipForImageClassification": lambda _: mean(0, 0),
}


# Vision models under a head of their own, by what their pooled output reads.
TOWERS: dict[str, Callable[[Any], Callable[[int], Reading]]] = {
    "ViTModel": lambda _: leading(1, 1),
    "CLIPVisionModel": lambda _: leading(1, 1),
    "CLIPVisionTransformer": lambda _: leading(1, 1),
    "Dinov2Model": lambda _: leading(1, 1),
    "Dinov2WithRegistersModel": lambda c: leading(1, 1 + c.num_register_tokens),
    "DINOv3ViTModel": lambda c: leading(1, 1 + c.num_register_tokens),
    "SiglipVisionModel": lambda _: leading(0, 0),
    "SiglipVisionTransformer": lambda _: leading(0, 0),
}


def tower_layout(net: TowerClassifier, image_size: tuple[int, int]) -> Layout | None:
    """Layout of a tower of transformers under a head; None for a tower of another library.

    Where a learned query pools the tokens (SigLIP), relevance starts from it.
    """
    tower: Network = net.tower
    if not from_transformers(tower):
        return None
    kind = type(tower).__name__
    if kind not in TOWERS:
        raise _no_rule(kind, TOWERS)
    layout = _one_stream(net, tower.config.patch_size, image_size, TOWERS[kind](tower.config))
    heads = pooling_heads(tower)
    if not heads:
        return layout
    layers = layout.layers | {f"tower.{heads[0]}.attention": TokenMixing(1, 0, pools=True)}
    return Layout((*layout.streams, Stream(1, (0, 0), torch.ones(1))), layers)


def _no_rule(kind: str, known: Iterable[str]) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"Hugging Face's {kind} is not supported: no relevance rule is known for its head; "
        f"these are: {', '.join(known)}; {WITHOUT_ATTENTION}"
    )


def _hugging_face(net: Network, size: tuple[int, int]) -> Layout:
    kind = type(net).__name__
    if kind not in HUGGING_FACE:
        raise _no_rule(kind, HUGGING_FACE)
    config = getattr(net.config, "vision_config", net.config)
    return _one_stream(net, config.patch_size, size, HUGGING_FACE[kind](config))


def _torchvision(net: Network, size: tuple[int, int]) -> Layout:
    return _one_stream(net, net.patch_size, size, leading(1, 1))


def _open_clip(net: nn.Module, tower: Network, size: tuple[int, int]) -> Layout:
    if tower.attn_pool is not None or tower.pool_type not in ("tok", "avg"):
        raise UnsupportedModelError(
            "this open_clip tower pools tokens by attention of many queries, for which no "
            f"relevance rule is known; {WITHOUT_ATTENTION}"
        )
    rule = mean(1, 1) if tower.pool_type == "avg" else leading(1, 1)
    return _one_stream(net, tower.patch_size, size, rule)
