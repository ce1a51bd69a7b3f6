"""Triton's kernels, by its interpreter where there is no GPU, give what PyTorch's blocks give."""

from __future__ import annotations

import types

import pytest
import torch
from torch import Tensor

import vitreous
from vitreous.attribution import blockwise
from vitreous.models import attention_inputs
from vitreous.models.attention_inputs import AttentionInputs

pytest.importorskip("triton")
from vitreous.attribution import triton_kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Samples, heads, queries, keys, width of a head; a block is 64 tokens, or 32 for wide heads.
SHAPES = [(2, 3, 7, 11, 4), (1, 1, 70, 65, 24), (1, 2, 1, 70, 64), (1, 1, 40, 33, 80)]


def problem(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    batch, heads, queries, keys, width = shape
    row = torch.rand(batch, queries)
    counts = (queries, keys, keys, queries)
    parts = (torch.randn(batch, n, heads, width).transpose(1, 2).to(dtype) for n in counts)
    return row.to(DEVICE), *(part.to(DEVICE) for part in parts)


def results(shape, parts: tuple[Tensor, ...], fused: bool) -> tuple[Tensor, ...]:
    """What the keys receive, and the gradients for the row, queries and keys."""
    row, q, k, v, gradient = (part.clone().requires_grad_() for part in parts)
    scale = 1.3 * shape[-1] ** -0.5
    outer = torch.linspace(-1, 1, shape[0] * shape[3], device=DEVICE).reshape(shape[0], -1)
    if fused:
        assert triton_kernels.accepts(row, q, k, v, gradient)
        values = triton_kernels.propagate_fused(row, q, k, v, gradient, scale)
    else:
        layer = AttentionInputs("", q, k, v, q, scale, slice(None))
        values = blockwise.propagate_blockwise(row, layer, gradient, 2**20)
    (values * outer).sum().backward()
    assert v.grad is None and gradient.grad is None  # constants
    return values, row.grad, q.grad, k.grad


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_blocks(shape) -> None:
    parts = problem(shape, torch.float32)
    for ours, theirs in zip(results(shape, parts, True), results(shape, parts, False)):
        assert theirs.abs().max() > 0.01
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


# The interpreter multiplies bfloat16 as if its bits were whole numbers.
HALF = [torch.float16, *([torch.bfloat16] if DEVICE.type == "cuda" else [])]


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype) -> None:
    parts = problem((1, 2, 20, 33, 16), dtype)
    parts = (parts[0].float(), *parts[1:])
    ours, theirs = (results((1, 2, 20, 33, 16), parts, fused) for fused in (True, False))
    assert [t.dtype for t in ours] == [torch.float32, torch.float32, dtype, dtype]
    for mine, other in zip(ours, theirs):
        atol = 1e-5 if mine.dtype == torch.float32 else 2 * torch.finfo(dtype).eps
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=atol)


def test_what_the_kernels_are_not_made_for_is_left_to_blocks() -> None:
    double = [part.double() for part in problem(SHAPES[0], torch.float32)]
    assert not triton_kernels.accepts(*double)
    assert not triton_kernels.accepts(*problem((1, 1, 2, 2, 512), torch.float32))


def test_a_device_that_cannot_build_them_takes_blocks_and_says_so() -> None:
    def broken(*_: object) -> Tensor:
        raise RuntimeError("no compiler was found")

    def wrong(row: Tensor, queries: Tensor, *_: object) -> Tensor:
        return row * 2

    assert blockwise.kernels_work(triton_kernels, DEVICE, 64)
    with pytest.warns(UserWarning, match="without Triton's kernels on .*: RuntimeError: no comp"):
        assert not blockwise.kernels_work(types.SimpleNamespace(propagate_fused=broken), DEVICE, 64)
    with pytest.warns(UserWarning, match="they give other numbers"):
        assert not blockwise.kernels_work(types.SimpleNamespace(propagate_fused=wrong), DEVICE, 8)


def test_they_are_for_gpus_alone() -> None:
    assert blockwise.gpu_kernels(torch.device("cpu"), 64) is None


def test_relevance_of_a_model_is_made_by_them_where_they_work(monkeypatch) -> None:
    options = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "global_pool": "avg"}
    model = vitreous.load_model("vit_tiny_patch16_224", pretrained=False, image_size=32, **options)
    model, images = model.to(DEVICE), torch.rand(2, 3, 32, 32, device=DEVICE)
    expected = vitreous.relevance(model, images, 1)
    seen: list[int] = []

    class Watched:
        accepts = staticmethod(triton_kernels.accepts)

        @staticmethod
        def propagate_fused(row: Tensor, *rest: Tensor) -> Tensor:
            seen.append(row.shape[1])
            return triton_kernels.propagate_fused(row, *rest)

    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1)
    monkeypatch.setattr(blockwise, "gpu_kernels", lambda *_: Watched)
    torch.testing.assert_close(vitreous.relevance(model, images, 1), expected, rtol=0, atol=1e-5)
    assert seen == [17, 17]


@pytest.mark.gpu
def test_a_gpu_makes_relevance_and_a_step_by_them() -> None:
    assert blockwise.gpu_kernels(DEVICE, 64) is triton_kernels
    shape = (2, 6, 1025, 1025, 64)
    parts = problem(shape, torch.float32)
    layer = AttentionInputs("", *parts[1:4], parts[1], 0.125, slice(None))
    expected = blockwise.propagate_blockwise(parts[0], layer, parts[4], 2**24)
    found = blockwise.propagate_blockwise(parts[0], layer, parts[4])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(results(shape, parts, True), results(shape, parts, False)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
