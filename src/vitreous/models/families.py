"""Where attention is in each family of models, and how tokens mix there.

Plain Vision Transformers have one stream of tokens; CrossViT has two, which meet in layers of
cross-attention; a head that pools by attention is a stream of one learned query, and CaiT's class
token one that reads the patches once they are done.
"""

from __future__ import annotations

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.cait import Cait
from timm.models.crossvit import CrossVit
from torch import Tensor, nn

from vitreous.errors import UnsupportedModelError
from vitreous.models.families_other import other_family, tower_layout
from vitreous.models.kernel import kernel_layers
from vitreous.models.layout import WITHOUT_ATTENTION, Layout, Network, Stream, TokenMixing
from vitreous.models.towers import TowerClassifier

TOKENS_MOVE = (
    "is not a Vision Transformer whose tokens stay in place, so attention relevance does not hold "
    "for it"
)
REFUSED = {
    "Xcit": "attends over channels, not over tokens, so attention relevance does not hold for it",
    "ConVit": "adds its CLS token behind its first layers, so their maps are not over the tokens "
    "that its head reads and attention relevance does not hold for it",
    "CoaT": "never forms a map of attention (it is factorized), so there is none to explain by",
}


def hooked_layers(module: nn.Module) -> dict[str, Network]:
    """Find the layers that apply a dropout to an attention map, by name, in forward order."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(getattr(layer, "attn_drop", None), nn.Module)
    }


def attention_layers(module: nn.Module) -> dict[str, Network]:
    """Find all layers whose attention can be recorded, by name, in forward order."""
    layers = hooked_layers(module) | kernel_layers(module)
    return {name: layers[name] for name, _ in module.named_modules() if name in layers}


def unsupported(module: nn.Module, reason: str) -> UnsupportedModelError:
    """Say of a model that its attention cannot be used: why, and what to do."""
    kind = type(getattr(module, "net", module))
    return UnsupportedModelError(f"{kind.__name__} {reason}; {WITHOUT_ATTENTION}")


def layout_of(net: nn.Module, image_size: tuple[int, int]) -> Layout:
    """Describe how a network mixes tokens for images of a size.

    Raises:
        UnsupportedModelError: If no family fits, or its head reads tokens in a way for which no
            relevance rule is known.
    """
    if (reason := REFUSED.get(type(net).__name__)) is not None:
        raise unsupported(net, reason)
    for family in (crossvit, cait, tower_family, other_family, plain_vit):
        layout = family(net, image_size)
        if layout is not None:
            return layout
    raise unsupported(net, TOKENS_MOVE)


def tower_family(net: nn.Module, image_size: tuple[int, int]) -> Layout | None:
    """A tower under a head: the tower's own layout, where it is one of open_clip's or timm's."""
    if not isinstance(net, TowerClassifier):
        return None
    layout = tower_layout(net, image_size)
    if layout is not None:
        return layout
    tower: Network = net.tower
    wrapped = hasattr(tower, "trunk")  # a network of timm's within open_clip
    place, part = ("tower.trunk.", tower.trunk) if wrapped else ("tower.", tower)
    inner = layout_of(part, image_size)
    return Layout(inner.streams, {place + name: mixing for name, mixing in inner.layers.items()})


def start_row(net: Network, prefix: int, patches: int) -> Tensor:
    """Row that the head reads: CLS (and the distillation token), or the mean of the patches."""
    row = torch.zeros(prefix + patches)
    pool = getattr(net, "global_pool", "token")
    if hasattr(net, "head_dist"):
        row[:2] = 1.0
    elif pool == "token" and prefix > 0:
        row[0] = 1.0
    elif pool == "map":
        pass  # the learned query of `pooled` reads the tokens
    elif pool == "avg":
        first = 0 if getattr(net, "pool_include_prefix", False) else prefix
        row[first:] = 1.0 / (prefix + patches - first)
    else:
        raise UnsupportedModelError(
            f"the head of this {type(net).__name__} pools tokens by '{pool or 'nothing'}', for "
            "which no relevance rule is known; use a 'token' or 'avg' head (--model.options "
            f"'{{global_pool: avg}}'); {WITHOUT_ATTENTION}"
        )
    return row


def plain_vit(net: Network, image_size: tuple[int, int]) -> Layout | None:
    """ViT, DeiT, AugReg, DINOv2/v3, EVA, BEiT, CLIP towers: one stream, self-attention only."""
    names = list(hooked_layers(net))
    embed = getattr(net, "patch_embed", None)
    known = hasattr(net, "num_prefix_tokens") and hasattr(embed, "patch_size")
    if not known or not names or any(not n.startswith("blocks.") for n in names):
        return None
    if len({n.split(".")[1] for n in names}) != len(names):
        return None  # parallel attention layers within one block
    grid = _grid(net, embed, image_size)
    prefix = int(net.num_prefix_tokens)
    start, cover = start_row(net, prefix, grid[0] * grid[1]), covered(grid, embed, image_size)
    stream = Stream(prefix, grid, start, cover, centered=False)
    layout = Layout((stream,), {name: TokenMixing(0, 0) for name in names})
    return pooled(net, layout)


def pooled(net: Network, layout: Layout) -> Layout:
    """Add the head that pools by attention (SigLIP), where there is one, to a stream of tokens.

    Its learned query is a token of its own, from which relevance starts: it attends to the
    tokens by the same rule as any layer, and not to itself.
    """
    pool = getattr(net, "attn_pool", None)
    if pool is None:
        return layout
    if not isinstance(pool, AttentionPoolLatent) or pool.latent_len != 1:
        raise UnsupportedModelError(
            f"the head of this {type(net).__name__} pools tokens by {type(pool).__name__}, for "
            f"which no relevance rule is known; {WITHOUT_ATTENTION}"
        )
    query = Stream(1, (0, 0), torch.ones(1))
    layers = layout.layers | {"attn_pool": TokenMixing(1, 0, pools=True)}
    return Layout((*layout.streams, query), layers)


def covered(
    grid: tuple[int, int], embed: Network, image_size: tuple[int, int]
) -> tuple[float, float]:
    """Share of an image that whole patches cover: what is left at its end is in none.

    Where more than a patch would be left, patches are not of pixels (a hybrid's are of features).
    """
    down, across = (
        count * patch / side if 0 <= side - count * patch < patch else 1.0
        for count, patch, side in zip(grid, embed.patch_size, image_size)
    )
    return down, across


def _grid(net: Network, embed: Network, image_size: tuple[int, int]) -> tuple[int, int]:
    dynamic = bool(getattr(net, "dynamic_img_size", False))
    if not dynamic and getattr(embed, "grid_size", None) is not None:
        return int(embed.grid_size[0]), int(embed.grid_size[1])
    height, width = embed.patch_size
    return image_size[0] // height, image_size[1] // width


def crossvit(net: Network, image_size: tuple[int, int]) -> Layout | None:
    """CrossViT (Chen et al. 2021): two streams that meet in fusion layers through their CLS.

    In a fusion step the CLS token of branch i attends to itself and to the patches of branch
    i + 1; nothing else moves.
    """
    if not isinstance(net, CrossVit):
        return None
    count = int(net.num_branches)
    streams = []
    embeds: Network = net.patch_embed
    for i, embed in enumerate(embeds):
        size, patch = net.img_size_scaled[i], embed.patch_size
        grid = (size[0] // patch[0], size[1] // patch[1])
        row = start_row(net, 1, grid[0] * grid[1])
        cover = (1.0, 1.0)
        if net.crop_scale and size[0] <= image_size[0] and size[1] <= image_size[1]:
            cover = (size[0] / image_size[0], size[1] / image_size[1])
        streams.append(Stream(1, grid, row, cover))
    layers = {}
    for name in hooked_layers(net):
        _, _, part, branch, *_ = name.split(".")
        i = int(branch)
        layers[name] = TokenMixing(i, i if part == "blocks" else (i + 1) % count)
    return Layout(tuple(streams), layers)


def cait(net: Network, image_size: tuple[int, int]) -> Layout | None:
    """CaiT (Touvron et al. 2021): patches alone, then a class token that reads them.

    A map of the first part is what multiplies the values, behind the mixing of heads, so that its
    weights can be negative. In the second part the class token attends to itself and to the
    patches, as in a cross-attention; patches stay as they are.
    """
    if not isinstance(net, Cait):
        return None
    grid = _grid(net, net.patch_embed, image_size)
    row = start_row(net, 1, grid[0] * grid[1])
    streams = (Stream(1, (0, 0), row[:1]), Stream(0, grid, row[1:]))
    parts = {"blocks": TokenMixing(1, 1, signed=True), "blocks_token_only": TokenMixing(0, 1)}
    return Layout(streams, {name: parts[name.split(".")[0]] for name in hooked_layers(net)})
