"""The methods: each turns attention maps (and their gradients) into relevance.

All of them carry one row from the head back to the patches instead of multiplying whole
matrices: O(tokens²) a layer instead of O(tokens³), with the same result.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.attribution.base import METHODS, MixedLayer, RecordedPass
from vitreous.attribution.blockwise import carry_back, carry_halves
from vitreous.attribution.maps import combine_streams
from vitreous.attribution.streams import held_by, received_by
from vitreous.models.families import layout_of
from vitreous.models.gradients import scaled_gradients
from vitreous.models.layout import Network

TINY = torch.finfo(torch.float32).tiny
ATTENTION = frozenset({"attention"})


def increments(
    rows: list[Tensor], layer: MixedLayer, cam: Tensor, normalize: bool = False
) -> list[Tensor]:
    """What one layer adds to each stream's row when it is carried back: r·(I + cam) - r.

    Args:
        rows: A row (B, tokens) for each stream.
        layer: Which streams it mixes, and which queries the rows of `cam` are.
        cam: (B, queries, keys), not negative; queries that are left out get nothing.
        normalize: Divide each row of I + cam by its sum, as attention rollout does.
    """
    mixing, held = layer.mixing, held_by(layer.mixing, layer.queries)
    weights = rows[mixing.queries][:, held]
    if mixing.pools:
        share = cam / cam.sum(-1, keepdim=True).clamp(min=TINY) if normalize else cam
        return received_by(rows, mixing, (weights.unsqueeze(1) @ share).squeeze(1))
    carried = weights / (1 + cam.sum(-1)) if normalize else weights
    added = received_by(rows, mixing, (carried.unsqueeze(1) @ cam).squeeze(1))
    if normalize:
        own = added[mixing.queries]
        added[mixing.queries] = own + _at(held, carried - weights, own)
    return added


def _at(queries: slice, values: Tensor, like: Tensor) -> Tensor:
    """Values (B, queries) at their places among all tokens (B, tokens), zeros elsewhere."""
    first, end, _ = queries.indices(like.shape[1])
    return F.pad(values, (first, like.shape[1] - end))


def propagate(recorded: RecordedPass, cams: list[Tensor], normalize: bool = False) -> Tensor:
    """Carry the start rows back through all layers and lay the patches on the image.

    What is laid there is the gain over the start row. That row is the same for all patches, so
    the scaled map is unchanged, and small gains are not lost beside it.
    """
    starts = recorded.start_rows()
    gains = [torch.zeros_like(row) for row in starts]
    for layer, cam in zip(reversed(recorded.layers()), reversed(cams)):
        rows = [start + gain for start, gain in zip(starts, gains)]
        added = increments(rows, layer, cam.to(recorded.dtype), normalize)
        gains = [gain + more for gain, more in zip(gains, added)]
    return combine_streams(gains, recorded.tokens, recorded.size)


class GradientAttention:
    """Gradient × attention (Chefer et al. 2021, "Generic Attention-model Explainability", eq. 5–6).

    `cam = mean over heads of relu(A ∘ ∂score/∂A)`, `R ← R + cam·R`. Where attention is not
    negative, `relu(A ∘ G) = A ∘ relu(G)`: where G is a constant, one product is all that a loss
    derives, and blocks of both can be made from the layers' inputs when they are needed
    (`blockwise`).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"attention", "attention_inputs"})

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        if recorded.halves is not None:
            gains = carry_halves(recorded, recorded.halves)
            return combine_streams(gains, recorded.tokens, recorded.size)
        if recorded.inputs:
            return combine_streams(carry_back(recorded), recorded.tokens, recorded.size)
        layers = recorded.layers()
        cams = [_positive(layer, g) for layer, g in zip(layers, recorded.gradients())]
        return propagate(recorded, cams)


def _positive(layer: MixedLayer, gradient: Tensor) -> Tensor:
    """Mean over heads of relu(A ∘ G), (B, queries, keys); a constant gradient is used up."""
    if layer.mixing.signed:
        return (layer.map * gradient).relu().mean(1)
    positive = gradient.relu() if gradient.requires_grad else gradient.relu_()
    return (layer.map * positive).sum(1) / layer.map.shape[1]


class Rollout:
    """Attention rollout (Abnar & Zuidema 2020): the product of (A + I)/2, heads averaged."""

    needs: ClassVar[frozenset[str]] = ATTENTION

    def unfit(self, net: Network, size: tuple[int, int]) -> str:
        """Why it does not hold: see `vitreous.attribution.base.unfit`."""
        if not any(mixing.signed for mixing in layout_of(net, size).layers.values()):
            return ""
        return (
            f"rollout multiplies shares of attention, and the heads of {type(net).__name__} are "
            "mixed behind the softmax, so that weights can be negative and are no shares"
        )

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        return propagate(recorded, [a.mean(1) for a in recorded.maps()], normalize=True)


class GradientRollout:
    """Gradient rollout: rollout of relu(mean over heads of A ∘ ∂score/∂A), rows summing to 1."""

    needs: ClassVar[frozenset[str]] = ATTENTION

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        recorded.layers()
        pairs = zip(recorded.maps(), recorded.gradients())
        cams = [(a * g).mean(1).clamp(min=0) for a, g in pairs]
        return propagate(recorded, cams, normalize=True)


def last_rows(recorded: RecordedPass, values: list[Tensor]) -> list[tuple[int, Tensor]]:
    """The head's query over the patches, in the last layer that has them as keys, per stream.

    Args:
        recorded: The pass.
        values: A tensor (B, heads, queries, keys) for each map from the start layer on.

    Returns:
        For each stream: the stream whose patches are the keys, and (B, heads, its patches).
    """
    rows: dict[int, tuple[int, Tensor]] = {}
    starts = recorded.start_rows()
    for layer, value in zip(recorded.layers(), values):
        if value.shape[-1] == 1:
            continue
        queries, keys = layer.mixing.queries, layer.mixing.keys
        if layer.mixing.pools:
            patches = value.shape[-1] - math.prod(recorded.tokens.streams[keys].grid)
            rows[queries] = (keys, value[:, :, 0, patches:].to(recorded.dtype))
        elif layer.mixing.crosses:
            row = starts[queries][:, :1, None] * value[:, :, 0, 1:].to(recorded.dtype)
            rows[queries] = (keys, row)
        else:
            weights = starts[queries][:, None, None, layer.queries]
            row = (weights @ value.to(recorded.dtype)).squeeze(2)
            rows[queries] = (keys, row[..., recorded.tokens.streams[keys].prefix :])
    return [rows[stream] for stream in sorted(rows)]


def place(recorded: RecordedPass, patches: list[tuple[int, Tensor]]) -> Tensor:
    """Lay the relevance of patches (B, patches), by stream, on the image."""
    rows = [row * 0.0 for row in recorded.start_rows()]
    for stream, values in patches:
        prefix = recorded.tokens.streams[stream].prefix
        rows[stream] = rows[stream] + F.pad(values, (prefix, 0))
    return combine_streams(rows, recorded.tokens, recorded.size)


class RawAttention:
    """Attention of the last layer, heads averaged: what the head's token looks at."""

    needs: ClassVar[frozenset[str]] = ATTENTION

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        rows = last_rows(recorded, recorded.maps())
        return place(recorded, [(stream, row.mean(1)) for stream, row in rows])


class GradCam:
    """Grad-CAM on the last layer's attention, as in Chefer et al. 2021's comparison.

    Heads are channels: each is weighted by the mean of its gradient over the patches.
    """

    needs: ClassVar[frozenset[str]] = ATTENTION

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        attention = last_rows(recorded, recorded.maps())
        gradients = last_rows(recorded, recorded.gradients())
        maps = [
            (stream, (a * g.mean(-1, keepdim=True)).mean(1).clamp(min=0))
            for (stream, a), (_, g) in zip(attention, gradients)
        ]
        return place(recorded, maps)


class InputGradient:
    """Input gradient (Simonyan et al. 2014): largest absolute derivative over the channels."""

    needs: ClassVar[frozenset[str]] = frozenset({"input_gradients"})

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        (gradient,) = scaled_gradients(
            recorded.score,
            [recorded.images],
            create_graph=recorded.second_order,
            retain_graph=recorded.retain_graph or recorded.second_order,
        )
        return gradient.abs().amax(1, keepdim=True)


for _name, _method in {
    "gradient_attention": GradientAttention(),
    "rollout": Rollout(),
    "gradient_rollout": GradientRollout(),
    "raw_attention": RawAttention(),
    "grad_cam": GradCam(),
    "input_gradient": InputGradient(),
}.items():
    METHODS.register(_name)(_method)
