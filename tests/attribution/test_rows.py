"""Rows of the last attention layer, and what a pass keeps where one stream hides it."""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor

import vitreous
from helpers import TINY_MODEL
from vitreous.attribution import compute, explain
from vitreous.attribution.compute import recorded_pass
from vitreous.attribution.methods import GradCam, last_rows
from vitreous.models.families import layout_of
from vitreous.models.forward import record_forward
from vitreous.models.layout import Layout, Stream, TokenMixing


def vit() -> vitreous.Classifier:
    settings = {"pretrained": False, "num_classes": 3, "image_size": 32}
    return vitreous.load_model("vit_tiny_patch16_224", **settings, **TINY_MODEL["options"])


class TwoStreams:
    """A pass of two streams of 2×2 and 3×3 patches, each read by the other's CLS token."""

    def __init__(self, *keys: tuple[int, int, int]):
        """Take (queries, keys, number of keys) of each layer."""
        grids = ((2, 2), (3, 3))
        streams = tuple(Stream(1, grid, torch.eye(1 + grid[0] * grid[1])[0]) for grid in grids)
        self.tokens = Layout(streams, {})
        self.dtype, self.size = torch.float64, (6, 6)
        self._layers = [
            types.SimpleNamespace(mixing=TokenMixing(q, k), queries=slice(None)) for q, k, _ in keys
        ]
        shapes = [(2, 3, 1, count) for *_, count in keys]
        source = torch.Generator().manual_seed(0)
        self._maps, self._gradients = (
            [torch.rand(s, dtype=torch.float64, generator=source) for s in shapes] for _ in range(2)
        )

    def layers(self) -> list[Any]:
        return self._layers

    def maps(self) -> list[Tensor]:
        return self._maps

    def gradients(self) -> list[Tensor]:
        return self._gradients

    def start_rows(self) -> list[Tensor]:
        return [s.start.double().expand(2, -1) for s in self.tokens.streams]


def test_a_cross_attention_over_its_own_token_alone_is_passed_over() -> None:
    """The later layers of a stage see one key, which says nothing of patches."""
    made: Any = TwoStreams((0, 1, 10), (0, 1, 1), (1, 0, 5))
    rows = last_rows(made, made.maps())
    assert [stream for stream, _ in rows] == [1, 0]
    assert torch.equal(rows[0][1], made.maps()[0][:, :, 0, 1:])
    assert torch.equal(rows[1][1], made.maps()[2][:, :, 0, 1:])
    two: Any = TwoStreams((0, 1, 2))
    assert last_rows(two, two.maps())[0][1].shape == (2, 3, 1), "two keys are one patch"


def test_grad_cam_weighs_heads_by_the_mean_over_their_patches() -> None:
    """Of two streams with 4 and 9 patches a sum would weigh the larger more than twice."""
    made: Any = TwoStreams((0, 1, 10), (1, 0, 5))
    expected = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    for attention, gradient, side in zip(made.maps(), made.gradients(), (3, 2)):
        a, g = attention[:, :, 0, 1:], gradient[:, :, 0, 1:]
        cam = (a * g.mean(-1, keepdim=True)).mean(1).clamp(min=0).reshape(2, 1, side, side)
        expected += torch.nn.functional.interpolate(cam, size=(6, 6), mode="bilinear")
    torch.testing.assert_close(GradCam()(made), expected)


def test_the_layout_is_asked_for_at_the_height_and_width_of_the_images(monkeypatch) -> None:
    sizes = []

    def asked(net: Any, size: tuple[int, int]) -> Layout:
        sizes.append(size)
        return layout_of(net, size)

    monkeypatch.setattr(compute, "layout_of", asked)
    explain(vit(), torch.rand(2, 3, 32, 32))
    assert sizes == [(32, 32)]


def test_a_pass_that_is_described_can_still_be_derived() -> None:
    model = vit()
    made = record_forward(model, torch.rand(2, 3, 32, 32), attention=True)
    recorded = recorded_pass(made, torch.tensor([0, 1]), layout_of(model.net, (32, 32)))
    assert recorded.gradients()
    made.logits.sum().backward()
    assert model.net.head.weight.grad is not None


def test_input_gradients_of_the_first_order_leave_the_logits_a_graph() -> None:
    model = vit()
    found = explain(model, torch.rand(2, 3, 32, 32), method="input_gradient", differentiable=True)
    assert not found.relevance.requires_grad
    found.logits.sum().backward()
    assert model.net.head.weight.grad is not None
