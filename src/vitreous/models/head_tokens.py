"""The last block of a Vision Transformer, spared what no head reads.

The head of most Vision Transformers reads the CLS token alone. In the last block the patches then
serve as keys and values only: their queries, and all that follows, reach no logit and get no
gradient. Left out, a block of a ViT-S costs a sixth, forwards and backwards, for equal logits.

The pass is written out here from the network's own modules. Nothing of the network is changed.
"""

from __future__ import annotations

from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from vitreous.models.layout import Network
from vitreous.models.timm_blocks import attend, is_foreign, is_plain_block


def read_by_head(net: nn.Module) -> int:
    """Count the leading tokens that a head reads.

    Returns:
        1 or 2 where the last block of timm's plain ViTs and distilled DeiTs can be spared the
        others; 0 where it must stay whole: other families, heads that pool patches, blocks of
        another make, modules with somebody's hooks or with a `forward` of their own, gradient
        checkpointing.
    """
    tokens = _head_width(net)
    if tokens == 0 or not _has_plain_last_block(net) or _is_watched(net):
        return 0
    return tokens


def held_queries(net: Network) -> dict[str, slice] | None:
    """Which queries a spared pass has, by name of the layer that is spared; None if none is."""
    tokens = read_by_head(net)
    return {f"blocks.{len(net.blocks) - 1}.attn": slice(0, tokens)} if tokens else None


def logits_of_head_tokens(net: Network, x: Tensor, tokens: int) -> Tensor:
    """Forward pass of a network whose last block computes the first `tokens` tokens only.

    Args:
        net: A network for which `read_by_head` gives `tokens`.
        x: (B, 3, H, W), normalised.
        tokens: How many leading tokens the head reads.

    Returns:
        Logits (B, C), those of `net(x)` up to rounding.
    """
    x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(x))))
    *blocks, last = net.blocks
    for block in blocks:
        x = block(x)
    return net.forward_head(net.norm(_last_block(last, x, tokens)))


def _last_block(block: Network, x: Tensor, tokens: int) -> Tensor:
    """Compute timm's block on (B, all tokens, width), returning (B, `tokens`, width)."""
    rows = x[:, :tokens]
    rows = rows + block.drop_path1(block.ls1(attend(block.attn, block.norm1(x), tokens)))
    return rows + block.drop_path2(block.ls2(block.mlp(block.norm2(rows))))


def _head_width(net: nn.Module) -> int:
    if type(net) is VisionTransformerDistilled:
        return 2
    if type(net) is not VisionTransformer or net.attn_pool is not None:
        return 0
    return int(net.global_pool == "token" and net.has_class_token)


def _has_plain_last_block(net: Network) -> bool:
    if net.grad_checkpointing or not len(net.blocks):
        return False
    return is_plain_block(net.blocks[-1])


def _is_watched(net: Network) -> bool:
    """Whether somebody would see that a module was passed over or had fewer tokens."""
    if torch_modules._has_any_global_hook():
        return True
    return any(is_foreign(m) for m in (net, net.blocks, net.norm, *net.blocks[-1].modules()))
