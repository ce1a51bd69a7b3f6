"""Chains of blocks that keep what goes into each half of a block and nothing else.

What autograd keeps of a block is ten times as wide as what goes into it. Here the pass makes no
graph; the halves (attention, MLP) are computed again one by one on the way back, and what a half
held is let go before the next. The last linear layer of a half is not computed again: its gradient
needs no output. Some of the last MLPs, as many as there is room for, keep their graph and are not
computed again either. Each attention is shown to a visitor, which derives it as it makes its
relevance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vitreous.models.gradients import constant
from vitreous.models.kernel import Arguments, NamedArguments
from vitreous.models.layout import Network
from vitreous.models.timm_blocks import attend, is_plain_block, queries_keys_values

PIECE = 1280  # tokens that an MLP is derived for at once, at most
# What is kept may be this part of what the attention maps and their gradients would be, or this
# many numbers (64 MiB in float32) where that is more.
KEPT_SHARE = 0.13
KEPT_LEAST = 2**24
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
class Chain:
    """Blocks one after another, and what is kept of a pass through them.

    Attributes:
        blocks: timm's blocks.
        names: Module name of each one's attention.
        inputs: What went into each block, (blocks, B, tokens, width).
        middles: What its attention made of that, likewise.
        graphs: By block, the graph of its MLP up to the last linear layer, where that was kept.
    """

    blocks: Sequence[Network]
    names: Sequence[str]
    inputs: Tensor
    middles: Tensor
    graphs: dict[int, MlpGraph]

    def carry_back(
        self,
        gradient: Tensor,
        visit: Visitor,
        start: int = 0,
        onward: bool = False,
        retain_graph: bool = False,
    ) -> Tensor | None:
        """Derive the blocks from the last to the start block; each attention is shown once.

        Args:
            gradient: Of the score, for what the last block gave: (B, its tokens, width).
            visit: Is shown each attention and returns its derivatives.
            start: The first block that is wanted.
            onward: Something before it is wanted too. Otherwise `visit` returns None for it.
            retain_graph: Keep the MLPs' graphs for another time; without them it takes longer.

        Returns:
            The gradient for what went in, (B, tokens, width); None where nothing is wanted there.
        """
        for number in reversed(range(start, len(self.blocks))):
            middle = self.middles[number, :, : gradient.shape[1]]
            graph = self.graphs.get if retain_graph else self.graphs.pop
            more = _derive_mlp(self.blocks[number], middle, gradient, graph(number, None))
            first = number == start and not onward
            derived = self._derive_attention(number, gradient + more, visit, first)
            if derived is None:
                return None
            gradient = derived
        return gradient

    def _derive_attention(
        self, number: int, gradient: Tensor, visit: Visitor, first: bool
    ) -> Tensor | None:
        """The gradient for a block's input; what it takes is let go before the next block."""
        block, inputs, count = self.blocks[number], self.inputs[number], gradient.shape[1]
        layer, held, name = block.attn, slice(0, count), self.names[number]
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


def can_chain(blocks: Iterable[Network]) -> bool:
    """Whether blocks are timm's, with nothing in them that a chain passes over."""
    return all(is_plain_block(block) and _is_linear(block) for block in blocks)


@torch.no_grad()
def pass_through(
    blocks: Sequence[Network], names: Sequence[str], x: Tensor, tokens: int, kept: int
) -> tuple[Tensor, Chain]:
    """What blocks make of x (B, tokens, width) at evaluation, and what was kept.

    Args:
        blocks: Which `can_chain`.
        names: Module name of each one's attention.
        x: What goes into the first.
        tokens: How many leading tokens the last block makes.
        kept: How many of the last MLPs keep their graph.

    Returns:
        (B, `tokens`, width) without a graph, and the chain.
    """
    depth, graphs = len(blocks), {}
    # One piece of memory: many would lie between what comes and goes, and keep it apart.
    inputs, middles = x.new_empty(2, depth, *x.shape)
    inputs[0] = x
    for number, block in enumerate(blocks):
        x, count = inputs[number], tokens if number == depth - 1 else x.shape[1]
        mixed = block.ls1(attend(block.attn, block.norm1(x), count))
        x = torch.add(x[:, :count], mixed, out=middles[number, :, :count])
        if number >= depth - kept:  # the last are derived first, and let go
            made, graphs[number] = _mlp_with_graph(block, x)
        else:
            made = block.ls2(block.mlp(block.norm2(x)))
        x = x + made if number == depth - 1 else torch.add(x, made, out=inputs[number + 1])
    return x, Chain(blocks, names, inputs, middles, graphs)


def rooms(chains: Sequence[tuple[Sequence[Network], torch.Size]]) -> list[int]:
    """How many of each chain's last MLPs find room beside the halves' inputs.

    Args:
        chains: Blocks, and the shape (B, tokens, width) of what goes through them, in the order of
            the pass. The last are derived first, so that they have room first.
    """
    maps = sum(
        2 * shape[0] * block.attn.num_heads * shape[1] ** 2
        for blocks, shape in chains
        for block in blocks
    )
    left = max(KEPT_SHARE * maps, KEPT_LEAST)
    left -= sum(2 * len(blocks) * shape.numel() for blocks, shape in chains)
    found = []
    for blocks, (batch, tokens, _) in reversed(chains):
        numbers = batch * tokens * max(block.mlp.fc2.in_features for block in blocks)
        found.append(min(len(blocks), max(0, int(left // numbers))))
        left -= found[-1] * numbers
    return found[::-1]


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


class ConstantWeights(TorchFunctionMode):
    """Parameters are constants inside the context: no graph holds what only they would need."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Arguments = (),
        kwargs: NamedArguments | None = None,
    ) -> object:
        """Call a function of torch."""
        given = {name: constant(value) for name, value in (kwargs or {}).items()}
        return func(*(constant(value) for value in args), **given)


class _Caught(ConstantWeights):
    """Catches what goes into one linear layer, too.

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
        func: Callable[..., object],
        types: object,
        args: Arguments = (),
        kwargs: NamedArguments | None = None,
    ) -> object:
        """Call a function of torch, unless it is that layer and left out."""
        caught = func is F.linear and args[1] is self.weight
        if caught:
            self.input = args[0]
            if self.left_out:
                return args[0].new_zeros(()).expand(*args[0].shape[:-1], self.weight.shape[0])
            args = (args[0].detach(), *args[1:])
        return super().__torch_function__(func, types, args, kwargs)
