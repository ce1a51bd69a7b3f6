"""`head_tokens_only`: spare the last block what no head reads.

The head of most Vision Transformers reads the CLS token alone. In the last block the patches then
serve as keys and values only: their queries, and all that follows, reach no logit and get no
gradient. Left out, a block of a ViT-S costs a sixth, forwards and backwards, for equal logits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from timm.layers import Attention, GluMlp, Mlp, SwiGLU
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F


class HeadTokensBlock(Block):
    """timm's block, which returns the first `head_tokens` tokens only."""

    head_tokens: int

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Take (B, tokens, width), return (B, head_tokens, width)."""
        if attn_mask is not None or is_causal:
            return super().forward(x, attn_mask, is_causal)[:, : self.head_tokens]
        rows = x[:, : self.head_tokens]
        x = rows + self.drop_path1(self.ls1(self._attend(self.norm1(x))))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        """Attention whose queries are the head's tokens."""
        layer: Any = self.attn
        weight, bias = layer.qkv.weight, layer.qkv.bias
        width = layer.attn_dim
        q = F.linear(x[:, : self.head_tokens], weight[:width], _part(bias, 0, width))
        k, v = F.linear(x, weight[width:], _part(bias, width, None)).chunk(2, dim=-1)
        q, k, v = (
            one.unflatten(-1, (layer.num_heads, layer.head_dim)).transpose(1, 2)
            for one in (q, k, v)
        )
        q, k = layer.q_norm(q), layer.k_norm(k)
        if layer.fused_attn:
            dropout = layer.attn_drop.p if layer.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        else:
            scores = (q * layer.scale) @ k.transpose(-2, -1)
            mixed = layer.attn_drop(scores.softmax(dim=-1)) @ v
        mixed = layer.norm(mixed.transpose(1, 2).flatten(2))
        return layer.proj_drop(layer.proj(mixed))


def _part(bias: Tensor | None, start: int, end: int | None) -> Tensor | None:
    return None if bias is None else bias[start:end]


@contextlib.contextmanager
def head_tokens_only(module: nn.Module) -> Generator[None]:
    """Let the last block of a ViT compute only the tokens that its head reads.

    Logits and the gradients of all weights and pictures are the same up to rounding. A recorded
    attention map of the last block has only the rows of those tokens. The context does nothing
    where it would change more: other families, heads that pool patches, blocks of another make
    or with somebody's hooks, and gradient checkpointing. Enter it before `record_attention`.

    Args:
        module: A `Classifier` or a network; forward passes inside the context are spared.
    """
    net: Any = getattr(module, "net", module)
    tokens = _read_by_head(net)
    if tokens == 0:
        yield
        return
    block = net.blocks[-1]
    block.__class__, block.head_tokens = HeadTokensBlock, tokens
    try:
        yield
    finally:
        block.__class__ = Block
        del block.head_tokens


def _read_by_head(net: Any) -> int:
    """How many leading tokens a head reads; 0 where the last block must stay whole."""
    if type(net) is VisionTransformerDistilled:
        tokens = 2
    elif type(net) is VisionTransformer and net.global_pool == "token" and net.has_class_token:
        tokens = 1
    else:
        return 0
    if getattr(net, "attn_pool", None) is not None or net.grad_checkpointing or not net.blocks:
        return 0
    block = net.blocks[-1]
    plain = (
        type(block) is Block
        and type(block.attn) is Attention
        and type(block.attn.qkv) is nn.Linear
        and block.attn.gate is None
        and isinstance(block.mlp, Mlp | GluMlp | SwiGLU)
    )
    if not plain or any(_hooked(m) for m in (*block.modules(), net.blocks, net.norm)):
        return 0
    return tokens


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
