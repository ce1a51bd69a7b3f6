"""Gradient × attention on GPUs: the blocks of `blockwise` as Triton kernels, fused.

What `blockwise` makes of a block of the map in main memory lives here in registers: a tile of
scores and a tile of ∂o vᵀ are made, used and forgotten, forward and backward. Nothing is added up
across programs (a program owns its keys, or its queries), so results do not change from run to run.

Triton is optional: `blockwise` takes these kernels where it can be imported, and its own otherwise.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx

TYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 256


def accepts(row: Tensor, *parts: Tensor) -> bool:
    """Whether the kernels are made for a row and for queries, keys, values and gradients."""
    wide = any(part.shape[-1] > WIDEST or part.dtype not in TYPES for part in parts)
    return row.dtype == torch.float32 and not wide


def propagate_fused(
    row: Tensor, queries: Tensor, keys: Tensor, values: Tensor, gradient: Tensor, scale: float
) -> Tensor:
    """As `blockwise.propagate_blockwise`: row (B, Q) to what the keys receive, (B, K) float32.

    Queries, keys, values and gradient are (B, heads, Q or K, d), in float32 or half precision;
    sums are float32 in either case.
    """
    values = values.to(torch.promote_types(values.dtype, gradient.dtype))
    parts = (queries, keys, values.detach(), gradient.detach().to(values.dtype))
    return _FusedPropagation.apply(row, *parts, scale)


@triton.jit
def _tokens(base, rows, count, width: tl.constexpr, padded: tl.constexpr):
    """Rows (rows, padded) of one head's (count, width); zeros outside."""
    columns = tl.arange(0, padded)
    inside = (rows[:, None] < count) & (columns[None, :] < width)
    return tl.load(base + rows[:, None] * width + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _store_tokens(base, block, rows, count, width: tl.constexpr, padded: tl.constexpr):
    """Write what `_tokens` reads."""
    columns = tl.arange(0, padded)
    inside = (rows[:, None] < count) & (columns[None, :] < width)
    tl.store(base + rows[:, None] * width + columns[None, :], block, mask=inside)


@triton.jit
def _asking(
    queries, gradients, normalizers, row, head, rows, count,
    heads: tl.constexpr, width: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    """A tile of queries and of ∂o, their normalizers, and their weights in the row."""
    q = _tokens(queries + head * count * width, rows, count, width, padded)
    gradient = _tokens(gradients + head * count * width, rows, count, width, padded)
    inside = rows < count
    sums = tl.load(normalizers + head * count + rows, mask=inside, other=0.0)
    weight = tl.load(row + head // heads * count + rows, mask=inside, other=0.0)
    return q, gradient, sums, weight


@triton.jit
def _scores(q, k, columns, key_count, scale, precision: tl.constexpr):
    """A tile of scores (queries, keys); minus infinity where there is no key."""
    scores = tl.dot(q, tl.trans(k), input_precision=precision) * scale
    return tl.where(columns[None, :] < key_count, scores, float("-inf"))


@triton.jit
def _positive(gradient, v, precision: tl.constexpr):
    """A tile of relu(∂o vᵀ)."""
    return tl.maximum(tl.dot(gradient, tl.trans(v), input_precision=precision), 0.0)


@triton.jit
def _normalizers(
    queries, keys, normalizers, query_count, key_count, scale,
    width: tl.constexpr, padded: tl.constexpr, block: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """The logarithm of each query's sum of exponentials: (B · heads, Q)."""
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * block + tl.arange(0, block)
    q = _tokens(queries + head * query_count * width, rows, query_count, width, padded)
    highest = tl.full((block,), float("-inf"), tl.float32)
    total = tl.zeros((block,), tl.float32)
    for first in range(0, key_count, block):
        columns = first + tl.arange(0, block)
        k = _tokens(keys + head * key_count * width, columns, key_count, width, padded)
        scores = _scores(q, k, columns, key_count, scale, precision)
        higher = tl.maximum(highest, tl.max(scores, 1))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(scores - higher[:, None]), 1)
        highest = higher
    sums = highest + tl.log(total)
    tl.store(normalizers + head * query_count + rows, sums, mask=rows < query_count)


@triton.jit
def _receive(
    row, queries, keys, values, gradients, normalizers, received, query_count, key_count, scale,
    heads: tl.constexpr, width: tl.constexpr, padded: tl.constexpr, block: tl.constexpr,
    precision: tl.constexpr,
):  # fmt: skip
    """What the keys receive from the queries of one head: (B · heads, K)."""
    head = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * block + tl.arange(0, block)
    k = _tokens(keys + head * key_count * width, columns, key_count, width, padded)
    v = _tokens(values + head * key_count * width, columns, key_count, width, padded)
    total = tl.zeros((block,), tl.float32)
    for first in range(0, query_count, block):
        rows = first + tl.arange(0, block)
        q, gradient, sums, weight = _asking(
            queries, gradients, normalizers, row, head, rows, query_count, heads, width, padded
        )
        scores = _scores(q, k, columns, key_count, scale, precision)
        attention = tl.exp(scores - sums[:, None])
        positive = _positive(gradient, v, precision)
        total += tl.sum(attention * positive * weight[:, None], 0)
    tl.store(received + head * key_count + columns, total, mask=columns < key_count)


@triton.jit
def _derive_queries(
    row, queries, keys, values, gradients, normalizers, shares, totals, derived,
    query_count, key_count, scale,
    heads: tl.constexpr, width: tl.constexpr, padded: tl.constexpr, block: tl.constexpr,
    precision: tl.constexpr,
):  # fmt: skip
    """Gradients of the row, by head, (B · heads, Q), and of the queries (B · heads, Q, d)."""
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * block + tl.arange(0, block)
    q, gradient, sums, weight = _asking(
        queries, gradients, normalizers, row, head, rows, query_count, heads, width, padded
    )
    total = tl.zeros((block,), tl.float32)
    weighed = tl.zeros((block, padded), tl.float32)
    mean = tl.zeros((block, padded), tl.float32)
    for first in range(0, key_count, block):
        columns = first + tl.arange(0, block)
        k = _tokens(keys + head * key_count * width, columns, key_count, width, padded)
        v = _tokens(values + head * key_count * width, columns, key_count, width, padded)
        share = shares + head // heads * key_count + columns
        of_key = tl.load(share, mask=columns < key_count, other=0.0)
        scores = _scores(q, k, columns, key_count, scale, precision)
        attention = tl.exp(scores - sums[:, None])
        sent = attention * _positive(gradient, v, precision) * of_key[None, :]
        total += tl.sum(sent, 1)
        wide = k.to(tl.float32)
        weighed += tl.dot(sent, wide, input_precision=precision)
        mean += tl.dot(attention, wide, input_precision=precision)
    # Through the softmax: each row's gradient less its mean under the attention.
    block_derived = (weighed - total[:, None] * mean) * (weight * scale)[:, None]
    tl.store(totals + head * query_count + rows, total, mask=rows < query_count)
    place = derived + head * query_count * width
    _store_tokens(place, block_derived, rows, query_count, width, padded)


@triton.jit
def _derive_keys(
    row, queries, keys, values, gradients, normalizers, shares, totals, derived,
    query_count, key_count, scale,
    heads: tl.constexpr, width: tl.constexpr, padded: tl.constexpr, block: tl.constexpr,
    precision: tl.constexpr,
):  # fmt: skip
    """Gradient of the keys: (B · heads, K, d)."""
    head = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * block + tl.arange(0, block)
    k = _tokens(keys + head * key_count * width, columns, key_count, width, padded)
    v = _tokens(values + head * key_count * width, columns, key_count, width, padded)
    share = shares + head // heads * key_count + columns
    of_key = tl.load(share, mask=columns < key_count, other=0.0)
    collected = tl.zeros((block, padded), tl.float32)
    for first in range(0, query_count, block):
        rows = first + tl.arange(0, block)
        q, gradient, sums, weight = _asking(
            queries, gradients, normalizers, row, head, rows, query_count, heads, width, padded
        )
        total = tl.load(totals + head * query_count + rows, mask=rows < query_count, other=0.0)
        scores = _scores(q, k, columns, key_count, scale, precision)
        attention = tl.exp(scores - sums[:, None])
        change = _positive(gradient, v, precision) * of_key[None, :] - total[:, None]
        of_scores = attention * change * (weight * scale)[:, None]
        wide = q.to(tl.float32)
        collected += tl.dot(tl.trans(of_scores), wide, input_precision=precision)
    _store_tokens(derived + head * key_count * width, collected, columns, key_count, width, padded)


class _FusedPropagation(torch.autograd.Function):
    """The twin of `blockwise`'s function: the same arguments but for the size of blocks."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        row: Tensor,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        gradient: Tensor,
        scale: float,
    ) -> Tensor:
        """(B, K): what the keys receive."""
        batch, heads, count, _ = queries.shape
        normalizers = row.new_empty(batch, heads, count)
        received = row.new_empty(batch, heads, keys.shape[2])
        row, *parts = (t.contiguous() for t in (row, queries, keys, values, gradient))
        counts, sizes = (count, keys.shape[2], scale), _sizes(queries)
        with _on(row.device):
            _launch(_normalizers, _grid(queries, sizes), *parts[:2], normalizers, *counts, **sizes)
            sizes["heads"] = heads
            _launch(
                _receive, _grid(keys, sizes), row, *parts, normalizers, received, *counts, **sizes
            )
        ctx.save_for_backward(row, queries, keys, values, gradient, normalizers)
        ctx.scale = scale  # ty: ignore[missing-attribute]
        return received.mean(1)

    @staticmethod
    def backward(ctx: FunctionCtx, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for the row, queries and keys; values and gradient are constants."""
        saved: tuple[Tensor, ...] = ctx.saved_tensors  # ty: ignore[missing-attribute]
        row, queries, keys, *_ = saved
        batch, heads, count, width = queries.shape
        share = (outer[0] / heads).contiguous()
        totals = row.new_empty(batch, heads, count)
        of_queries = row.new_empty(batch, heads, count, width)
        of_keys = row.new_empty(batch, heads, keys.shape[2], width)
        given = [*(t.contiguous() for t in saved), share, totals]
        counts = (count, keys.shape[2], ctx.scale)  # ty: ignore[missing-attribute]
        sizes = {**_sizes(queries), "heads": heads}
        with _on(row.device):
            _launch(_derive_queries, _grid(queries, sizes), *given, of_queries, *counts, **sizes)
            _launch(_derive_keys, _grid(keys, sizes), *given, of_keys, *counts, **sizes)
        derived = (totals.sum(1), of_queries.to(queries.dtype), of_keys.to(keys.dtype))
        return *derived, None, None, None


def _sizes(queries: Tensor) -> dict[str, Any]:
    """What a kernel is compiled for; tiles of wide heads are smaller, to stay in registers."""
    width = queries.shape[-1]
    padded = max(16, 1 << (width - 1).bit_length())
    free = torch.get_float32_matmul_precision() != "highest"
    precision = "tf32" if free else "ieee"
    block = 64 if padded <= 64 else 32 if padded <= 128 else 16
    fixed = {"width": width, "padded": padded, "block": block, "precision": precision}
    return fixed | {"num_stages": 2}


def _launch(kernel: Any, grid: tuple[int, int], *arguments: object, **sizes: object) -> None:
    kernel[grid](*arguments, **sizes)


def _grid(owned: Tensor, sizes: dict[str, Any]) -> tuple[int, int]:
    """A program for each block of the tokens (B, heads, tokens, d) of each head."""
    return -(-owned.shape[2] // sizes["block"]), owned.shape[0] * owned.shape[1]


def _on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
