"""Which sizes of images a network takes: what does not fit is one line, not an assertion's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from vitreous.errors import InputSizeError
from vitreous.models.layout import Network


def check_input_size(net: Network, height: int, width: int) -> None:
    """Refuse images of a size that a network of timm or torchvision does not take.

    Args:
        net: The network; one that says nothing of its sizes takes all.
        height: Of the images, in pixels.
        width: Of the images.

    Raises:
        InputSizeError: If it takes one other size, or multiples of its patches.
    """
    wanted = _only_size(net)
    if wanted is not None and (height, width) != wanted:
        raise InputSizeError(
            f"{type(net).__name__} takes images of {wanted[0]} × {wanted[1]} pixels, found "
            f"{height} × {width}; resize them, or load the model with image_size="
            f"{height if height == width else (height, width)} (--image-size; in a recipe "
            "model.image_size)"
        )
    patch = _whole_patches(net)
    if patch is not None and (height % patch[0] or width % patch[1]):
        raise InputSizeError(
            f"{type(net).__name__} has patches of {patch[0]} × {patch[1]} pixels; an input of "
            f"{height} × {width} is no multiple of them"
        )


def check_own_size(net: Network) -> None:
    """Refuse a network that was built for images smaller than one of its patches.

    Raises:
        InputSizeError: If its images hold no patch.
    """
    size, patch = own_size(net), getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if size is None or not isinstance(patch, Sequence):
        return
    if size[0] < int(patch[0]) or size[1] < int(patch[1]):
        raise InputSizeError(
            f"{type(net).__name__} has patches of {patch[0]} × {patch[1]} pixels; images of "
            f"{size[0]} × {size[1]} hold none"
        )


def own_size(net: Network) -> tuple[int, int] | None:
    """Height and width of the images that a network was built for, where its patches say them."""
    size = getattr(getattr(net, "patch_embed", None), "img_size", None)
    return (int(size[0]), int(size[1])) if isinstance(size, Sequence) else None


def _only_size(net: Network) -> tuple[int, int] | None:
    """Height and width of the images of a network that takes no others; None of others."""
    if type(net).__module__.startswith("torchvision.models.vision_transformer"):
        return net.image_size, net.image_size
    parts = (getattr(net, "tower", None), *(net[:1] if isinstance(net, nn.Sequential) else ()), net)
    for part in parts:  # a tower of open_clip's, under a head or alone
        if type(part).__module__.startswith("open_clip.transformer") and hasattr(part, "conv1"):
            height, width = part.image_size
            return int(height), int(width)
    strict = getattr(getattr(net, "patch_embed", None), "strict_img_size", False)
    return own_size(net) if strict else None


def _whole_patches(net: Network) -> tuple[int, int] | None:
    embed: Any = getattr(net, "patch_embed", None)
    fixed = getattr(embed, "strict_img_size", None) is False
    if not fixed or getattr(embed, "dynamic_img_pad", False):
        return None
    return int(embed.patch_size[0]), int(embed.patch_size[1])
