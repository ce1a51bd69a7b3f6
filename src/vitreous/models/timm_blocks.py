"""timm's block of a plain Vision Transformer, written out for passes that leave parts of it out."""

from __future__ import annotations

import itertools

from timm.layers import Attention, GluMlp, Mlp, SwiGLU
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.models.attention import RecordingHook
from vitreous.models.layout import Network


def attend(layer: Network, x: Tensor, tokens: int) -> Tensor:
    """Attention of timm's layer whose queries are the first tokens."""
    q, k, v = queries_keys_values(layer, x, tokens)
    if layer.fused_attn:
        dropout = layer.attn_drop.p if layer.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    else:
        scores = (q * layer.scale) @ k.transpose(-2, -1)
        mixed = layer.attn_drop(scores.softmax(dim=-1)) @ v
    mixed = layer.norm(mixed.transpose(1, 2).flatten(2))
    return layer.proj_drop(layer.proj(mixed))


def queries_keys_values(layer: Network, x: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, heads, `tokens`, width of a head), and keys and values of all tokens."""
    weight, bias, width = layer.qkv.weight, layer.qkv.bias, layer.attn_dim
    if tokens < x.shape[1]:
        own, rest = (None, None) if bias is None else (bias[:width], bias[width:])
        q = F.linear(x[:, :tokens], weight[:width], own)
        k, v = F.linear(x, weight[width:], rest).chunk(2, dim=-1)
    else:
        q, k, v = F.linear(x, weight, bias).chunk(3, dim=-1)
    shape = (layer.num_heads, layer.head_dim)
    q, k, v = (part.unflatten(-1, shape).transpose(1, 2) for part in (q, k, v))
    return layer.q_norm(q), layer.k_norm(k), v


def is_plain_block(block: Network) -> bool:
    """Whether a block is timm's, with its own attention and a known MLP."""
    return (
        type(block) is Block
        and type(block.attn) is Attention
        and type(block.attn.qkv) is nn.Linear
        and block.attn.gate is None
        and isinstance(block.mlp, Mlp | GluMlp | SwiGLU)
    )


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
