"""The last block of a Vision Transformer, spared what no head reads.

The head of most Vision Transformers reads the CLS token alone. In the last block the patches then
serve as keys and values only: their queries, and all that follows, reach no logit and get no
gradient. Left out, a block of a ViT-S costs a sixth, forwards and backwards, for equal logits.

The pass is written out here from the network's own modules. Nothing of the network is changed.
"""

from __future__ import annotations

import itertools

from timm.layers import Attention, GluMlp, Mlp, SwiGLU
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_modules

from vitreous.models.attention import RecordingHook
from vitreous.models.layout import Network


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


def attend(layer: Network, x: Tensor, tokens: int) -> Tensor:
    """Attention of timm's layer whose queries are the first tokens."""
    q, k, v = project(layer, x, tokens)
    if layer.fused_attn:
        dropout = layer.attn_drop.p if layer.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    else:
        scores = (q * layer.scale) @ k.transpose(-2, -1)
        mixed = layer.attn_drop(scores.softmax(dim=-1)) @ v
    mixed = layer.norm(mixed.transpose(1, 2).flatten(2))
    return layer.proj_drop(layer.proj(mixed))


def project(layer: Network, x: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, heads, `tokens`, width of a head), and keys and values of all tokens."""
    weight, bias, width = layer.qkv.weight, layer.qkv.bias, layer.attn_dim
    own, rest = (None, None) if bias is None else (bias[:width], bias[width:])
    q = F.linear(x[:, :tokens], weight[:width], own)
    k, v = F.linear(x, weight[width:], rest).chunk(2, dim=-1)
    shape = (layer.num_heads, layer.head_dim)
    q, k, v = (part.unflatten(-1, shape).transpose(1, 2) for part in (q, k, v))
    return layer.q_norm(q), layer.k_norm(k), v


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


def is_plain_block(block: Network) -> bool:
    """Whether a block is timm's, with its own attention and a known MLP."""
    return (
        type(block) is Block
        and type(block.attn) is Attention
        and type(block.attn.qkv) is nn.Linear
        and block.attn.gate is None
        and isinstance(block.mlp, Mlp | GluMlp | SwiGLU)
    )


def _is_watched(net: Network) -> bool:
    """Whether somebody would see that a module was passed over or had fewer tokens."""
    if torch_modules._has_any_global_hook():
        return True
    return any(is_foreign(m) for m in (net, net.blocks, net.norm, *net.blocks[-1].modules()))


def is_foreign(module: nn.Module) -> bool:
    """Whether a module has somebody's hooks, or a `forward` of its own."""
    if "forward" in vars(module) or "forward_features" in vars(module):
        return True
    hooks = itertools.chain(
        module._forward_hooks.values(),
        module._forward_pre_hooks.values(),
        module._backward_hooks.values(),
        module._backward_pre_hooks.values(),
    )
    return any(not (isinstance(h, RecordingHook) and h.queries is not None) for h in hooks)
