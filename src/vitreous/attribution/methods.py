"""The methods: each turns attention maps (and their gradients) into relevance.

All of them carry one row from the head back to the patches instead of multiplying whole
matrices: O(tokens²) a layer instead of O(tokens³), with the same result.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.attribution.base import METHODS, Context
from vitreous.attribution.maps import combine
from vitreous.models.attention import scaled_gradients
from vitreous.models.families import Mixing

ATTENTION = frozenset({"attention"})


def increments(
    rows: list[Tensor], mixing: Mixing, cam: Tensor, normalise: bool = False
) -> list[Tensor]:
    """What one layer adds to each stream's row when it is carried back: r·(I + cam) - r.

    Args:
        rows: A row (B, tokens) for each stream.
        mixing: What the layer mixes.
        cam: (B, queries, keys), not negative; queries that are left out get nothing.
        normalise: Divide each row of I + cam by its sum, as attention rollout does.
    """
    added = [torch.zeros_like(row) for row in rows]
    asking = rows[mixing.stream][:, : cam.shape[1]]
    if mixing.keys == mixing.stream:
        carried = asking / (1 + cam.sum(-1)) if normalise else asking
        own = (carried.unsqueeze(1) @ cam).squeeze(1)
        if normalise:
            own = own + F.pad(carried - asking, (0, own.shape[1] - asking.shape[1]))
        added[mixing.stream] = own
        return added
    token = asking[:, :1]
    carried = token / (1 + cam[:, 0].sum(-1, keepdim=True)) if normalise else token
    own = carried * cam[:, 0, :1] + (carried - token)
    added[mixing.stream] = F.pad(own, (0, rows[mixing.stream].shape[1] - 1))
    added[mixing.keys] = F.pad(
        carried * cam[:, 0, 1:], (1, rows[mixing.keys].shape[1] - cam.shape[-1])
    )
    return added


def propagate(context: Context, cams: list[Tensor], normalise: bool = False) -> Tensor:
    """Carry the start rows back through all layers and lay the patches on the picture.

    What is laid there is the gain over the start row. That row is the same for all patches, so
    the scaled map is unchanged, and small gains are not lost beside it.
    """
    starts = context.start_rows()
    gains = [torch.zeros_like(row) for row in starts]
    for mixing, cam in zip(reversed(context.mixings()), reversed(cams)):
        rows = [start + gain for start, gain in zip(starts, gains)]
        added = increments(rows, mixing, cam.to(context.dtype), normalise)
        gains = [gain + more for gain, more in zip(gains, added)]
    return combine(gains, context.tokens, context.size)


class GradientAttention:
    """Gradient × attention (Chefer et al. 2021, "Generic Attention-model Explainability", eq. 5–6).

    `cam = mean over heads of relu(A ∘ ∂score/∂A)`, `R ← R + cam·R`. Attention is not negative, so
    `relu(A ∘ G) = A ∘ relu(G)`: where G is a constant, one product is all that a loss derives.
    """

    needs: ClassVar[frozenset[str]] = ATTENTION

    def __call__(self, context: Context) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        context.mixings()
        heads = [a.shape[1] for a in context.maps()]
        positive = [g.relu() if g.requires_grad else g.relu_() for g in context.gradients()]
        cams = [(a * g).sum(1) / h for a, g, h in zip(context.maps(), positive, heads)]
        return propagate(context, cams)


class Rollout:
    """Attention rollout (Abnar & Zuidema 2020): the product of (A + I)/2, heads averaged."""

    needs: ClassVar[frozenset[str]] = ATTENTION

    def __call__(self, context: Context) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        return propagate(context, [a.mean(1) for a in context.maps()], normalise=True)


class GradientRollout:
    """Gradient rollout: rollout of relu(mean over heads of A ∘ ∂score/∂A), rows summing to 1."""

    needs: ClassVar[frozenset[str]] = ATTENTION

    def __call__(self, context: Context) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        context.mixings()
        pairs = zip(context.maps(), context.gradients())
        cams = [(a * g).mean(1).clamp(min=0) for a, g in pairs]
        return propagate(context, cams, normalise=True)


def last_rows(context: Context, values: list[Tensor]) -> list[tuple[int, Tensor]]:
    """What the head's row asks of the patches in the last layer that reads them, per stream.

    Args:
        context: The pass.
        values: A tensor (B, heads, queries, keys) for each map from the start layer on.

    Returns:
        For each stream: the stream whose patches answer, and (B, heads, its patches).
    """
    found: dict[int, tuple[int, Tensor]] = {}
    starts = context.start_rows()
    for mixing, value in zip(context.mixings(), values):
        if value.shape[-1] == 1:
            continue
        keys = context.tokens.streams[mixing.keys]
        if mixing.keys == mixing.stream:
            asking = starts[mixing.stream][:, None, None, : value.shape[2]]
            row = (asking @ value.to(context.dtype)).squeeze(2)
            found[mixing.stream] = (mixing.keys, row[..., keys.prefix :])
        else:
            found[mixing.stream] = (mixing.keys, value[:, :, 0, 1:].to(context.dtype))
    return [found[stream] for stream in sorted(found)]


def place(context: Context, patches: list[tuple[int, Tensor]]) -> Tensor:
    """Lay the relevance of patches (B, patches), by stream, on the picture."""
    rows = [row * 0.0 for row in context.start_rows()]
    for stream, values in patches:
        prefix = context.tokens.streams[stream].prefix
        rows[stream] = rows[stream] + F.pad(values, (prefix, 0))
    return combine(rows, context.tokens, context.size)


class RawAttention:
    """Attention of the last layer, heads averaged: what the head's token looks at."""

    needs: ClassVar[frozenset[str]] = ATTENTION

    def __call__(self, context: Context) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        rows = last_rows(context, context.maps())
        return place(context, [(stream, row.mean(1)) for stream, row in rows])


class GradCam:
    """Grad-CAM on the last layer's attention, as in Chefer et al. 2021's comparison.

    Heads are channels: each is weighted by the mean of its gradient over the patches.
    """

    needs: ClassVar[frozenset[str]] = ATTENTION

    def __call__(self, context: Context) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        attention = last_rows(context, context.maps())
        gradients = last_rows(context, context.gradients())
        maps = [
            (stream, (a * g.mean(-1, keepdim=True)).mean(1).clamp(min=0))
            for (stream, a), (_, g) in zip(attention, gradients)
        ]
        return place(context, maps)


class InputGradient:
    """Input gradient (Simonyan et al. 2014): largest absolute derivative over the channels."""

    needs: ClassVar[frozenset[str]] = frozenset({"input_gradients"})

    def __call__(self, context: Context) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        (gradient,) = scaled_gradients(
            context.score,
            [context.images],
            create_graph=context.second_order,
            retain_graph=context.retain_graph or context.second_order,
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
