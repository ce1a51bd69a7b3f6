"""Relevance in blocks of queries is that of whole maps: values, gradients, and no map is held."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitreous.attribution.blockwise import LEAST_ROWS, _blocks, _suited, propagate_blockwise
from vitreous.models.attention_inputs import AttentionInputs

B, HEADS, QUERIES, KEYS, WIDTH = 2, 3, 7, 11, 4
SCALE = WIDTH**-0.5


def layer(dtype: torch.dtype = torch.float64, queries: int = QUERIES) -> tuple[Tensor, ...]:
    shapes = [(queries, WIDTH), (KEYS, WIDTH), (KEYS, WIDTH), (queries, WIDTH)]
    parts = [torch.randn(B, HEADS, *s, dtype=dtype) for s in shapes]
    row = torch.rand(B, queries, dtype=dtype)
    return row, *parts


def inputs(q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
    return AttentionInputs("", q, k, v, q, SCALE, slice(None))


def brute_force(row: Tensor, q: Tensor, k: Tensor, v: Tensor, gradient: Tensor) -> Tensor:
    """The formula of the paper, with whole maps."""
    attention = (q @ k.transpose(-2, -1) * SCALE).softmax(-1)
    of_map = gradient.detach() @ v.detach().transpose(-2, -1)
    cam = (attention * of_map).relu().mean(1)
    return (row[:, None] @ cam)[:, 0]


@pytest.mark.parametrize("block", [1, 2 * 3 * 11 * 2, 10**6])
def test_values_and_gradients_are_those_of_whole_maps(block: int) -> None:
    tensors = [t.requires_grad_() for t in layer()]
    row, q, k, v, gradient = tensors
    outer = torch.randn(B, KEYS, dtype=torch.float64)
    expected = brute_force(row, q, k, v, gradient)
    wanted = torch.autograd.grad((expected * outer).sum(), (row, q, k))
    values = propagate_blockwise(row, inputs(q, k, v), gradient, block)
    gradients = torch.autograd.grad((values * outer).sum(), (row, q, k))
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients, wanted):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("tokens", [577, 1025, 4097])
def test_blocks_have_rows_enough_and_no_last_one_of_few(batch: int, tokens: int) -> None:
    tensor = torch.empty(batch, 6, tokens, 64, device="meta")
    made = inputs(tensor, tensor, tensor)
    blocks = list(_blocks(tensor, tensor, _suited(made)))
    rows = [block.stop - block.start for block in blocks]
    assert [b.start for b in blocks] == [0, *(b.stop for b in blocks[:-1])]
    assert blocks[-1].stop == tokens
    assert rows[0] == max(rows) <= min(rows) + 1
    assert min(rows) > 0.8 * LEAST_ROWS


def test_its_own_backward_is_the_derivative_of_its_forward() -> None:
    row, q, k, v, gradient = (t[:1] for t in layer())
    variables = [t.requires_grad_() for t in (row, q, k)]

    def call(row: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return propagate_blockwise(row, inputs(q, k, v), gradient, 50)

    assert torch.autograd.gradcheck(call, variables)


def test_values_and_gradient_of_the_output_are_constants() -> None:
    row, q, k, v, gradient = layer()
    v.requires_grad_()
    gradient.requires_grad_()
    sent = propagate_blockwise(row, inputs(q.requires_grad_(), k, v), gradient)
    sent.sum().backward()
    assert q.grad is not None and v.grad is None and gradient.grad is None


def test_the_gradient_of_a_map_is_what_autograd_says() -> None:
    """∂o vᵀ is the gradient of the map, so the recording of maps gives the same relevance."""
    row, q, k, v, _ = layer()
    attention = (q @ k.transpose(-2, -1) * SCALE).softmax(-1).requires_grad_()
    output = attention @ v
    score = (output.tanh() * torch.randn_like(output)).sum()
    of_map, of_output = torch.autograd.grad(score, (attention, output))
    expected = (row[:, None] @ (attention * of_map).relu().mean(1))[:, 0]
    values = propagate_blockwise(row, inputs(q, k, v), of_output)
    torch.testing.assert_close(values, expected.detach(), rtol=0, atol=1e-12)


def test_half_precision_is_added_up_in_float32() -> None:
    row, q, k, v, gradient = layer(torch.float32)
    exact = propagate_blockwise(row, inputs(q, k, v), gradient)
    *half, gradient = (t.bfloat16() for t in (q, k, v, gradient))
    values = propagate_blockwise(row, inputs(*half), gradient)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, exact, rtol=0.05, atol=0.02)


def test_no_tensor_as_large_as_a_map_is_made() -> None:
    """Counted from within: every tensor that an operation returns."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for value in result if isinstance(result, tuple | list) else (result,):
                if isinstance(value, Tensor):
                    largest = max(largest, value.numel())
            return result

    row, q, k, v, gradient = layer(torch.float32, queries=400)
    q.requires_grad_()
    k.requires_grad_()
    limit = B * HEADS * 400 * WIDTH  # the queries themselves
    with Watch():
        sent = propagate_blockwise(row, inputs(q, k, v), gradient, 2000)
        sent.square().sum().backward()
    assert largest <= limit < B * HEADS * 400 * KEYS
