"""Networks whose every operation is known: timm's plain Vision Transformers.

Methods that carry relevance through a whole network, rather than through its attention alone, need
a rule for each operation in it.
"""

from __future__ import annotations

from timm.layers import Attention, Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from vitreous.models.layout import Network


def not_plain_vit(net: Network, method: str) -> str:
    """Why a network is not timm's plain Vision Transformer with a head that reads one token.

    Returns:
        What there is no rule for; empty where it is one.
    """
    if type(net) is not VisionTransformer:
        reason = f"not for {type(net).__name__}"
    else:
        reason = _unknown(net)
    if not reason:
        return ""
    return f"{method} has rules for the operations of timm's plain Vision Transformers, {reason}"


def _unknown(net: Network) -> str:
    """What a network has that there is no rule for; empty where there is nothing."""
    if net.attn_pool is not None or net.global_pool != "token" or not net.has_class_token:
        return f"not for a head that pools by '{'map' if net.attn_pool else net.global_pool}'"
    for block in net.blocks:
        if type(block) is not Block:
            return f"not for blocks of {type(block).__name__}"
        if type(block.attn) is not Attention or block.attn.gate:
            return f"not for blocks with {type(block.attn).__name__}"
        if type(block.mlp) is not Mlp:
            return f"not for {type(block.mlp).__name__}"
        norms = (block.norm1, block.norm2, block.attn.q_norm, block.attn.k_norm)
        for norm in (*norms, block.attn.norm, block.mlp.norm, net.norm, net.norm_pre, net.fc_norm):
            if not isinstance(norm, nn.LayerNorm | nn.Identity):
                return f"not for {type(norm).__name__}"
    return ""
