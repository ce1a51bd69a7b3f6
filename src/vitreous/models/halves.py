"""A pass that keeps what goes into each half of a block and nothing else, for maps of long images.

What autograd keeps of a block is ten times as wide as what goes into it. Here the pass makes no
graph; the halves (attention, MLP) are computed again one by one on the way back, and what a half
held is let go before the next. The last linear layer of a half is not computed again: its gradient
needs no output. Each attention is shown to a visitor, which derives it as it makes its relevance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vitreous.models.layout import Network
from vitreous.models.timm_blocks import attend, is_foreign, is_plain_block, queries_keys_values

PIECE = 256  # tokens that an MLP is derived for at once
Derivatives = tuple[Tensor, Tensor, Tensor]
"""For queries, keys and values."""


@dataclasses.dataclass(frozen=True)
class ShownAttention:
    """One attention on the way back.

    Attributes:
        name: Module name within the network.
        queries: (B, heads, Q, d).
        keys: (B, heads, K, d).
        values: (B, heads, K, d).
        gradient: Of the score for the attention's output, (B, heads, Q, d).
        scale: Factor of the scores before the softmax.
        held: Which tokens the queries are.
        first: No layer is wanted before it, so nothing has to be derived.
    """

    name: str
    queries: Tensor
    keys: Tensor
    values: Tensor
    gradient: Tensor
    scale: float
    held: slice
    first: bool


Visitor = Callable[[ShownAttention], Derivatives | None]


@dataclasses.dataclass(frozen=True)
class HalvedPass:
    """What a halved pass keeps.

    Attributes:
        net: The network.
        tokens: How many leading tokens the head reads; the last block has no more.
        inputs: What went into each block, (blocks, B, tokens, width).
        middles: What its attention made of that, likewise.
        last: (B, tokens that the head reads, width), where the graph of the logits starts.
    """

    net: Network
    tokens: int
    inputs: Tensor
    middles: Tensor
    last: Tensor

    def carry_back(self, gradient: Tensor, visit: Visitor, start: int = 0) -> None:
        """Derive the blocks from the last to the start layer; each attention is shown once.

        Args:
            gradient: Of the score, for `last`.
            visit: Is shown each attention and returns its derivatives; None for the first.
            start: The first layer that is wanted.
        """
        for number in reversed(range(start, len(self.net.blocks))):
            block, inputs = self.net.blocks[number], self.inputs[number]
            middle = self.middles[number, :, : gradient.shape[1]]
            gradient = gradient + _derive_mlp(block, middle, gradient)
            layer, first = block.attn, number == start
            with torch.enable_grad():
                leaf = inputs.detach().requires_grad_()
                parts = queries_keys_values(layer, block.norm1(leaf), middle.shape[1])
            of_output = _before(layer.proj, block.ls1, gradient)
            of_output = of_output.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
            held, name = slice(0, middle.shape[1]), f"blocks.{number}.attn"
            shown = ShownAttention(name, *parts, of_output, layer.scale, held, first)
            derived = visit(shown)
            if derived is None:
                return
            (back,) = torch.autograd.grad(parts, leaf, derived)
            back[:, held] += gradient
            gradient = back


def can_halve(net: Network) -> bool:
    """Whether a plain Vision Transformer of timm's is at evaluation, its blocks all alike."""
    if net.training:
        return False
    plain = all(is_plain_block(block) and _is_linear(block) for block in net.blocks)
    return plain and not any(is_foreign(part) for part in net.modules())


def halved_pass(net: Network, x: Tensor, tokens: int) -> tuple[Tensor, HalvedPass]:
    """Logits (B, C) of normalised images (B, 3, H, W), and what was kept.

    Args:
        net: A network that `can_halve`.
        x: The images.
        tokens: How many leading tokens the head reads; the last block makes no more.
    """
    with torch.no_grad():
        x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(x))))
        # One piece of memory: many would lie between what comes and goes, and keep it apart.
        inputs, middles = x.new_empty(2, len(net.blocks), *x.shape)
        for number, block in enumerate(net.blocks):
            inputs[number] = x
            count = tokens if block is net.blocks[-1] else x.shape[1]
            x = x[:, :count] + block.ls1(attend(block.attn, block.norm1(x), count))
            middles[number, :, :count] = x
            x = x + block.ls2(block.mlp(block.norm2(x)))
    with torch.enable_grad():
        last = x.detach().requires_grad_()
        return net.forward_head(net.norm(last)), HalvedPass(net, tokens, inputs, middles, last)


def _is_linear(block: Network) -> bool:
    """Whether both halves end in a plain linear layer, and perhaps a factor for each channel."""
    plain = type(block.attn.proj) is nn.Linear and type(block.mlp.fc2) is nn.Linear
    plain = plain and isinstance(block.attn.norm, nn.Identity)
    return plain and all(type(s) in (nn.Identity, LayerScale) for s in (block.ls1, block.ls2))


def _before(layer: nn.Linear, scale: nn.Module, gradient: Tensor) -> Tensor:
    """The gradient of what goes into a linear layer with a factor behind it."""
    factor = scale.gamma if isinstance(scale, LayerScale) else None
    return (gradient if factor is None else gradient * factor) @ layer.weight


def _derive_mlp(block: Network, middle: Tensor, gradient: Tensor) -> Tensor:
    """The gradient for the input of the MLP's half, by way of the MLP alone, piece by piece."""
    derived, last = torch.empty_like(gradient), block.mlp.fc2
    for start in range(0, middle.shape[1], PIECE):
        piece = slice(start, start + PIECE)
        with torch.enable_grad(), _Left(last.weight) as left:
            leaf = middle[:, piece].detach().requires_grad_()
            block.mlp(block.norm2(leaf))
        outer = _before(last, block.ls2, gradient[:, piece])
        derived[:, piece] = torch.autograd.grad(left.input, leaf, outer)[0]
    return derived


class _Left(TorchFunctionMode):
    """Leaves one linear layer out inside the context, and keeps what would have gone into it."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = weight
        self.input = weight

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, unless it is that layer."""
        if func is F.linear and args[1] is self.weight:
            self.input = args[0]
            return args[0].new_zeros(()).expand(*args[0].shape[:-1], self.weight.shape[0])
        return func(*args, **(kwargs or {}))
