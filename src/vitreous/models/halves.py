"""A pass that keeps what goes into each half of a block and nothing else, for maps of long images.

What autograd keeps of a block is ten times as wide as what goes into it. Here the pass makes no
graph; the halves (attention, MLP) are computed again one by one on the way back, and what a half
held is let go before the next. The last linear layer of a half is not computed again: its gradient
needs no output. The last MLP, and others where maps would be so large that there is room for them,
keep their graph and are not computed again either. Each attention is shown to a visitor, which
derives it as it makes its relevance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vitreous.models.gradients import constant
from vitreous.models.layout import Network
from vitreous.models.timm_blocks import attend, is_foreign, is_plain_block, queries_keys_values

PIECE = 1280  # tokens that an MLP is derived for at once, at most
# What is kept may be this part of what the attention maps and their gradients would be.
KEPT_SHARE = 0.11
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
class MlpGraph:
    """The graph of an MLP's half from its input (B, tokens, width) to its last linear layer."""

    input: Tensor
    end: GradientEdge


@dataclasses.dataclass(frozen=True)
class HalvedPass:
    """What a halved pass keeps.

    Attributes:
        net: The network.
        tokens: How many leading tokens the head reads; the last block has no more.
        inputs: What went into each block, (blocks, B, tokens, width).
        middles: What its attention made of that, likewise.
        last: (B, tokens that the head reads, width), where the graph of the logits starts.
        graphs: By block, the graph of its MLP up to the last linear layer, where that was kept.
    """

    net: Network
    tokens: int
    inputs: Tensor
    middles: Tensor
    last: Tensor
    graphs: dict[int, MlpGraph]

    def carry_back(
        self, gradient: Tensor, visit: Visitor, start: int = 0, retain_graph: bool = False
    ) -> None:
        """Derive the blocks from the last to the start layer; each attention is shown once.

        Args:
            gradient: Of the score, for `last`.
            visit: Is shown each attention and returns its derivatives; None for the first.
            start: The first layer that is wanted.
            retain_graph: Keep the MLPs' graphs for another time; without them it takes longer.
        """
        for number in reversed(range(start, len(self.net.blocks))):
            block = self.net.blocks[number]
            middle = self.middles[number, :, : gradient.shape[1]]
            graph = self.graphs.get if retain_graph else self.graphs.pop
            gradient = gradient + _derive_mlp(block, middle, gradient, graph(number, None))
            derived = self._derive_attention(number, gradient, visit, number == start)
            if derived is None:
                return
            gradient = derived

    def _derive_attention(
        self, number: int, gradient: Tensor, visit: Visitor, first: bool
    ) -> Tensor | None:
        """The gradient for a block's input; what it takes is let go before the next block."""
        block, inputs, count = self.net.blocks[number], self.inputs[number], gradient.shape[1]
        layer, held, name = block.attn, slice(0, count), f"blocks.{number}.attn"
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            normed = block.norm1(leaf)
        straight = isinstance(layer.q_norm, nn.Identity) and isinstance(layer.k_norm, nn.Identity)
        with torch.set_grad_enabled(not straight):
            parts = queries_keys_values(layer, normed, count)
        of_output = _before(layer.proj, block.ls1, gradient)
        of_output = of_output.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
        derived = visit(ShownAttention(name, *parts, of_output, layer.scale, held, first))
        if derived is None:
            return None
        if straight:
            del parts, of_output  # before the next large piece of memory is asked for
            parts, derived = (normed,), (_before_projection(layer, *derived),)
        (back,) = torch.autograd.grad(parts, leaf, derived)
        back[:, held] += gradient
        return back


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
        inputs[0], graphs = x, {}
        depth, room = len(net.blocks), _rooms(net, x)
        for number, block in enumerate(net.blocks):
            x, count = inputs[number], tokens if number == depth - 1 else x.shape[1]
            mixed = block.ls1(attend(block.attn, block.norm1(x), count))
            x = torch.add(x[:, :count], mixed, out=middles[number, :, :count])
            # The last are derived first, and let go; the very last has few tokens.
            if number >= depth - 1 - room:
                made, graphs[number] = _mlp_with_graph(block, x)
            else:
                made = block.ls2(block.mlp(block.norm2(x)))
            x = x + made if number == depth - 1 else torch.add(x, made, out=inputs[number + 1])
    with torch.enable_grad():
        last = x.detach().requires_grad_()
        return net.forward_head(net.norm(last)), HalvedPass(
            net, tokens, inputs, middles, last, graphs
        )


def _is_linear(block: Network) -> bool:
    """Whether both halves end in a plain linear layer, and perhaps a factor for each channel."""
    plain = type(block.attn.proj) is nn.Linear and type(block.mlp.fc2) is nn.Linear
    plain = plain and isinstance(block.attn.norm, nn.Identity)
    return plain and all(type(s) in (nn.Identity, LayerScale) for s in (block.ls1, block.ls2))


def _before(layer: nn.Linear, scale: nn.Module, gradient: Tensor) -> Tensor:
    """The gradient of what goes into a linear layer with a factor behind it."""
    factor = scale.gamma if isinstance(scale, LayerScale) else None
    return (gradient if factor is None else gradient * factor) @ layer.weight


def _before_projection(layer: Network, of_q: Tensor, of_k: Tensor, of_v: Tensor) -> Tensor:
    """The gradient (B, K, width) of what queries (perhaps fewer), keys and values come from."""
    weight, width = layer.qkv.weight, layer.attn_dim
    of_q, of_k, of_v = (part.transpose(1, 2).flatten(2) for part in (of_q, of_k, of_v))
    if of_q.shape[1] == of_k.shape[1]:
        return torch.cat((of_q, of_k, of_v), -1) @ weight
    back = torch.cat((of_k, of_v), -1) @ weight[width:]
    back[:, : of_q.shape[1]] += of_q @ weight[:width]
    return back


def _rooms(net: Network, x: Tensor) -> int:
    """How many MLPs of all tokens find room beside the halves' inputs, in the share to be kept."""
    (_, tokens, width), layers = x.shape, [block.attn for block in net.blocks]
    maps = sum(2 * layer.num_heads * tokens**2 for layer in layers)
    left = KEPT_SHARE * maps - 2 * len(layers) * tokens * width
    return max(0, int(left // (tokens * max(block.mlp.fc2.in_features for block in net.blocks))))


def _mlp_with_graph(block: Network, x: Tensor) -> tuple[Tensor, MlpGraph]:
    """What the MLP's half adds to x (B, tokens, width), and its graph."""
    # `data`: what is written beside it in the same memory is no change of this.
    leaf = x.data.requires_grad_()
    with torch.enable_grad(), _Caught(block.mlp.fc2.weight) as caught:
        made = block.ls2(block.mlp(block.norm2(leaf)))
    return made.detach(), MlpGraph(leaf, get_gradient_edge(caught.input))


def _derive_mlp(block: Network, middle: Tensor, gradient: Tensor, graph: MlpGraph | None) -> Tensor:
    """The gradient for the input of the MLP's half, by way of the MLP alone: piece by piece.

    With a graph from the forward pass there is nothing to be computed again, and one piece.
    """
    last = block.mlp.fc2
    if graph is not None:
        outer = _before(last, block.ls2, gradient)
        return torch.autograd.grad([graph.end], [graph.input], [outer], retain_graph=True)[0]
    derived, count = torch.empty_like(gradient), middle.shape[1]
    length = -(-count // -(-count // PIECE))  # pieces of one size: a last small one is slow
    for start in range(0, count, length):
        piece = slice(start, start + length)
        with torch.enable_grad(), _Caught(last.weight, left_out=True) as caught:
            leaf = middle[:, piece].detach().requires_grad_()
            block.mlp(block.norm2(leaf))
        outer = _before(last, block.ls2, gradient[:, piece])
        derived[:, piece] = torch.autograd.grad(caught.input, leaf, outer)[0]
    return derived


class _Caught(TorchFunctionMode):
    """Catches what goes into one linear layer; parameters are constants inside the context.

    Args:
        weight: Of that layer.
        left_out: Give zeros in place of what the layer gives; otherwise that, without a graph.
    """

    def __init__(self, weight: Tensor, left_out: bool = False):
        super().__init__()
        self.weight, self.left_out = weight, left_out
        self.input = weight

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, unless it is that layer and left out."""
        caught = func is F.linear and args[1] is self.weight
        if caught:
            self.input = args[0]
            if self.left_out:
                return args[0].new_zeros(()).expand(*args[0].shape[:-1], self.weight.shape[0])
            args = (args[0].detach(), *args[1:])
        given = {name: constant(value) for name, value in (kwargs or {}).items()}
        return func(*(constant(value) for value in args), **given)
