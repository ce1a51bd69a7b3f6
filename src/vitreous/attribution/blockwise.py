"""Gradient × attention without ever holding an attention map: blocks of queries, recomputed.

Chefer et al. 2021 propagate `r ← r + r · mean_h relu(A_h ∘ G_h)`, with G_h the gradient of the
target logit with respect to the map A_h. A_h is `softmax(s q_h k_hᵀ)` and G_h is `∂o_h v_hᵀ`, where
∂o_h is the gradient of the attention's output, so a block of rows of both can be made from what
has n · d numbers, used, and forgotten. A is not negative: relu(A ∘ G) is A ∘ relu(G).

G is a constant here (RobustViT's rule), so a loss of the relevance reaches queries and keys, and
the row that came before, through A and nothing else. Second order needs the maps.

On GPUs the same is done by Triton's kernels (`triton_kernels`), where Triton can be imported.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from vitreous.attribution.base import RecordedPass
from vitreous.attribution.streams import held_by, received_by
from vitreous.models.attention_inputs import AttentionInputs
from vitreous.models.forward import gradients_enabled
from vitreous.models.gradients import scaled_gradients
from vitreous.models.halved_pass import HalvedPass
from vitreous.models.halves import Derivatives, ShownAttention

# Numbers that one block of an attention map may have: 6 MiB in float32 stay in a processor's
# caches; a GPU wants its work in larger pieces. Products of few rows are slow, so that a block has
# some of them whatever the batch is: of 12 layers' maps and gradients three such blocks, which are
# there at a time, are 19 / tokens.
BLOCK_NUMBERS = {"cpu": 3 * 2**19}
LARGE_BLOCK_NUMBERS = 2**24
LEAST_ROWS = 150


def carry_back(recorded: RecordedPass) -> list[Tensor]:
    """Carry the head's row back through all layers, from their inputs.

    Returns:
        For each stream (B, tokens): what it gained over the row that it started with.
    """
    layers, starts = recorded.input_layers(), recorded.start_rows()
    outputs = [layer.output for layer, _ in layers]
    gradients = scaled_gradients(recorded.score, outputs, retain_graph=recorded.retain_graph)
    gains = [torch.zeros_like(row) for row in starts]
    for (layer, mixing), gradient in zip(reversed(layers), reversed(gradients)):
        rows = [start + gain for start, gain in zip(starts, gains)]
        row = rows[mixing.queries][:, held_by(mixing, layer.held)]
        received = propagate_blockwise(row, layer, gradient)
        added = received_by(rows, mixing, received)
        gains = [gain + more for gain, more in zip(gains, added)]
    return gains


def carry_halves(recorded: RecordedPass, halves: HalvedPass) -> list[Tensor]:
    """As `carry_back`, in one pass from the last layer to the first, each forgotten after its turn.

    Returns:
        For each stream (B, tokens): what it gained over the row that it started with.
    """
    recorded.check_start(halves.layers)
    starts = recorded.start_rows()
    gains = [torch.zeros_like(row) for row in starts]
    memory: list[Tensor] = []

    def visit(layer: ShownAttention) -> Derivatives | None:
        mixing = recorded.mixing_of(layer)
        rows = [start + gain for start, gain in zip(starts, gains)]
        row = rows[mixing.queries][:, held_by(mixing, layer.held)]
        if layer.first:
            received, derived = propagate_blockwise(row, layer, layer.gradient), None
        else:
            received, *derived = propagate_and_derive(row, layer, memory=memory)
        gains[:] = [g + more for g, more in zip(gains, received_by(rows, mixing, received))]
        return None if derived is None else (derived[0], derived[1], derived[2])

    retain = recorded.retain_graph
    gradients = scaled_gradients(recorded.score, halves.last, retain_graph=retain)
    with torch.no_grad():
        halves.carry_back(gradients, visit, recorded.start_layer, retain)
    return gains


@torch.no_grad()
def propagate_and_derive(
    row: Tensor,
    layer: ShownAttention,
    block_numbers: int | None = None,
    memory: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Send relevance to the keys and derive the attention, by one visit of each block of its map.

    Args:
        row: (B, Q) relevance of the tokens that ask, float32 or wider.
        layer: The attention and the gradient of its output.
        block_numbers: Largest block of the map, in numbers; what suits the device, if None.
        memory: Where the blocks' memory lies between layers: empty at first.

    Returns:
        (B, K) relevance that the keys receive, and the score's gradients for queries, keys and
        values, in their type.
    """
    kind, given = torch.promote_types(row.dtype, torch.float32), layer.queries.dtype
    if block_numbers is None:
        block_numbers = _suited(layer)
    (batch, heads, _, _), tokens = layer.queries.shape, layer.keys.shape[2]
    parts = (layer.queries, layer.keys, layer.values, layer.gradient)
    queries, keys, values, gradient = (t.detach().to(kind).flatten(0, 1) for t in parts)
    # Products are quickest where what all blocks share lies as they read it, and is written.
    keys = torch.mul(keys, layer.scale).contiguous()
    keys_across, values_across = keys.mT.contiguous(), values.mT.contiguous()
    weights = row.detach().to(kind).unsqueeze(1).expand(-1, heads, -1)
    received = weights.new_zeros(batch, 1, tokens)
    of_queries = queries.new_empty(queries.shape)
    of_keys, of_values = keys.new_zeros(keys_across.shape), keys.new_zeros(values_across.shape)
    slices = list(_blocks(layer.queries, layer.keys, block_numbers))
    # Memory that is new for each block would cost as much as a product: all blocks share three.
    whole = _shared((3, batch * heads, slices[0].stop, tokens), queries, memory)
    with torch.autocast(row.device.type, enabled=False):
        for rows in slices:
            scores, attention, weighted = whole[:, :, : rows.stop - rows.start]
            asked, asking = gradient[:, rows], queries[:, rows]
            torch.bmm(asking, keys_across, out=scores)
            torch.softmax(scores, -1, out=attention)
            torch.bmm(asked, values_across, out=weighted)
            weighted.mul_(attention)
            positive = torch.clamp_min(weighted, 0, out=scores).unflatten(0, (batch, heads))
            received.baddbmm_(weights[:, :, rows].flatten(1)[:, None], positive.flatten(1, 2))
            of_values.baddbmm_(asked.mT, attention)
            # Through the softmax: each row's gradient less its mean under the attention.
            derived = weighted.addcmul_(attention, weighted.sum(-1, keepdim=True), value=-1)
            of_queries[:, rows] = derived @ keys
            of_keys.baddbmm_(asking.mT, derived)
    of_keys *= layer.scale
    across = (of_queries, of_keys.mT, of_values.mT)
    of_queries, of_keys, of_values = (t.unflatten(0, (batch, heads)).to(given) for t in across)
    return received[:, 0] / heads, of_queries, of_keys, of_values


def propagate_blockwise(
    row: Tensor,
    layer: AttentionInputs | ShownAttention,
    gradient: Tensor,
    block_numbers: int | None = None,
) -> Tensor:
    """Send relevance of the queries back to the keys: `r · mean_h (A_h ∘ relu(G_h))`.

    Args:
        row: (B, Q) relevance of the tokens that ask, float32 or wider.
        layer: Queries, keys and values.
        gradient: (B, heads, Q, d): of the target logit, for the attention's output.
        block_numbers: Largest block of the map, in numbers; if None what suits the device, and
            Triton's kernels where they work.

    Returns:
        (B, K) relevance that the keys receive, differentiable with respect to `row`, queries and
        keys.
    """
    kind = torch.promote_types(row.dtype, torch.float32)
    if block_numbers is None:
        parts = (layer.queries, layer.keys, layer.values, gradient)
        kernels = gpu_kernels(row.device, layer.queries.shape[-1])
        if kernels is not None and kernels.accepts(row.to(kind), *parts):
            with torch.autocast(row.device.type, enabled=False):
                return kernels.propagate_fused(row.to(kind), *parts, layer.scale)
        block_numbers = _suited(layer)
    row, queries, keys = (t.to(kind) for t in (row, layer.queries, layer.keys))
    values, gradient = (t.detach().to(kind) for t in (layer.values, gradient))
    with torch.autocast(row.device.type, enabled=False):
        return _Propagation.apply(row, queries, keys, values, gradient, layer.scale, block_numbers)


@functools.cache
def gpu_kernels(device: torch.device, width: int) -> ModuleType | None:
    """Triton's kernels, where a device is a GPU and they can be imported and built for it.

    What they are built for is the width of a head, too.
    """
    if device.type != "cuda":
        return None
    try:
        from vitreous.attribution import triton_kernels
    except ImportError:
        return None
    return triton_kernels if kernels_work(triton_kernels, device, width) else None


def kernels_work(kernels: ModuleType, device: torch.device, width: int) -> bool:
    """Whether kernels give on a device what blocks give, by a small problem; warns if not."""
    with gradients_enabled(), torch.random.fork_rng(devices=[]):
        row = torch.rand(1, 20).to(device).requires_grad_()
        queries, keys, values, gradient = torch.randn(4, 1, 1, 20, width).to(device)
        scale = width**-0.5
        expected = _Propagation.apply(row, queries, keys, values, gradient, scale, 2**20)
        wanted = torch.autograd.grad(expected.square().sum(), row)[0]
        try:
            found = kernels.propagate_fused(row, queries, keys, values, gradient, scale)
            derived = torch.autograd.grad(found.square().sum(), row)[0]
        except Exception as error:  # a compiler that is absent or too old says so in many ways
            why = f"{type(error).__name__}: {error}"
        else:
            pairs = ((found, expected), (derived, wanted))
            if all(torch.allclose(a, b, rtol=1e-2, atol=1e-2) for a, b in pairs):
                return True
            why = "they give other numbers"
    warnings.warn(f"relevance is made without Triton's kernels on {device}: {why}", stacklevel=2)
    return False


class _Propagation(torch.autograd.Function):
    """Forward and backward in blocks of queries; each makes its part of the map anew."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        row: Tensor,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        gradient: Tensor,
        scale: float,
        block_numbers: int,
    ) -> Tensor:
        """(B, K): what the keys receive."""
        ctx.save_for_backward(row, queries, keys, values, gradient)
        ctx.scale, ctx.block_numbers = scale, block_numbers  # ty: ignore[missing-attribute]
        received = row.new_zeros(keys.shape[0], keys.shape[2])
        for rows in _blocks(queries, keys, block_numbers):
            attention, positive = _maps(queries, keys, values, gradient, scale, rows)
            weighted = attention.mul_(positive)
            received += (row[:, None, None, rows] @ weighted).sum(1)[:, 0]
        return received / queries.shape[1]

    @staticmethod
    def backward(ctx: FunctionCtx, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for the row, queries and keys; values and gradient are constants."""
        row, queries, keys, values, gradient = ctx.saved_tensors  # ty: ignore[missing-attribute]
        scale: float = ctx.scale  # ty: ignore[missing-attribute]
        share = outer[0] / queries.shape[1]
        for_row = torch.empty_like(row)
        for_queries, for_keys = torch.empty_like(queries), torch.zeros_like(keys)
        for rows in _blocks(queries, keys, ctx.block_numbers):  # ty: ignore[missing-attribute]
            attention, positive = _maps(queries, keys, values, gradient, scale, rows)
            positive.mul_(share[:, None, None])
            # With respect to the map: r_q relu(G) g_k; through the softmax, row by row.
            total = (attention * positive).sum(-1)
            for_row[:, rows] = total.sum(1)
            scores = positive.sub_(total[..., None]).mul_(attention)
            scores.mul_(row[:, None, rows, None] * scale)
            for_queries[:, :, rows] = scores @ keys
            for_keys += scores.transpose(-2, -1) @ queries[:, :, rows]
        return for_row, for_queries, for_keys, None, None, None, None


def _shared(shape: tuple[int, ...], like: Tensor, memory: list[Tensor] | None) -> Tensor:
    """Memory of a shape, whatever is in it: that of the layer before, where it suffices."""
    memory, numbers = [] if memory is None else memory, math.prod(shape)
    if not memory or memory[0].numel() < numbers or memory[0].dtype != like.dtype:
        memory[:] = [like.new_empty(numbers)]
    return memory[0][:numbers].view(shape)


def _suited(layer: AttentionInputs | ShownAttention) -> int:
    """How many numbers a block has where nobody says."""
    (batch, heads, _, _), tokens = layer.queries.shape, layer.keys.shape[2]
    numbers = BLOCK_NUMBERS.get(layer.queries.device.type, LARGE_BLOCK_NUMBERS)
    return max(numbers, LEAST_ROWS * batch * heads * tokens)


def _blocks(queries: Tensor, keys: Tensor, block_numbers: int) -> Iterator[slice]:
    """Slices of the queries whose part of all heads' maps stays within a size, the longest first.

    Their lengths differ by one at most: a last block of few rows would be slow.
    """
    batch, heads, count, _ = queries.shape
    most = max(1, block_numbers // (batch * heads * keys.shape[2]))
    length, longer = divmod(count, -(-count // most))
    start = 0
    while start < count:
        stop = start + length + (longer > 0)
        yield slice(start, stop)
        start, longer = stop, longer - 1


def _maps(
    queries: Tensor, keys: Tensor, values: Tensor, gradient: Tensor, scale: float, rows: slice
) -> tuple[Tensor, Tensor]:
    """Some rows (B, heads, rows, K) of the maps, and of their gradients' positive part."""
    scores = (queries[:, :, rows] * scale) @ keys.transpose(-2, -1)
    positive = (gradient[:, :, rows] @ values.transpose(-2, -1)).relu_()
    return scores.softmax(-1), positive
