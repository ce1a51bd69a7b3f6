"""Methods that look into blocks in passes of their own: LeGrad, and Grad-CAM of a block."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.attribution.base import METHODS, RecordedPass
from vitreous.attribution.maps import stream_map
from vitreous.models.attention import record_attention
from vitreous.models.families import attention_layers, layout_of
from vitreous.models.layout import Network

MODEL = frozenset({"model"})


def not_one_stream(net: Network, size: tuple[int, int], method: str) -> str:
    """Why a method for one stream of tokens does not hold for a network; empty where it does."""
    count = len(layout_of(net, size).streams)
    if count == 1:
        return ""
    return (
        f"{method} holds for networks with one stream of tokens, and {type(net).__name__} has "
        f"{count}"
    )


class BlockGradCam:
    """Grad-CAM (Selvaraju et al. 2017, eq. 1-2) of the last block's first norm.

    `relu(Σ_c w_c A_c)` with `w_c = mean over patches of ∂score/∂A_c`, where A are the patches'
    activations that go into the last attention layer: what pytorch-grad-cam computes with
    `target_layers=[model.blocks[-1].norm1]` and its `reshape_transform`.
    """

    needs: ClassVar[frozenset[str]] = MODEL

    def unfit(self, net: Network, size: tuple[int, int]) -> str:
        """Why it does not hold: the last attention must read the patches of the one grid."""
        layout = layout_of(net, size)
        last = list(layout.layers.values())[-1]
        if sum(stream.grid[0] > 0 for stream in layout.streams) == 1 and not last.pools:
            return ""
        return not_one_stream(net, size, "gradcam_block")

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        layout = layout_of(recorded.model.net, recorded.size)
        stream = layout.streams[list(layout.layers.values())[-1].keys]
        last = attention_layers(recorded.model.net)[list(layout.layers)[-1]]
        seen: list[Tensor] = []

        def keep(_: Any, arguments: tuple[Tensor, ...], named: dict[str, Any]) -> Any:
            tokens = arguments[0] if arguments else named["hidden_states"]
            if not tokens.requires_grad:
                tokens = tokens.detach().requires_grad_()
            seen.append(tokens)
            kept = tuple(tokens if a is arguments[0] else a for a in arguments)
            return kept, named if arguments else named | {"hidden_states": tokens}

        handle = last.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            with torch.enable_grad():
                score = recorded.scores(recorded.images.detach()).sum()
                (gradient,) = torch.autograd.grad(score, seen)
        finally:
            handle.remove()
        patches = slice(seen[0].shape[1] - stream.grid[0] * stream.grid[1], None)
        weights = gradient[:, patches].mean(1, keepdim=True)
        cam = (seen[0].detach()[:, patches] * weights).sum(-1).relu()
        return stream_map(F.pad(cam, (stream.prefix, 0)), stream, recorded.size)


class LeGrad:
    """LeGrad (Bousselham et al. 2025, eq. 5-8): the attention gradients of every layer's own score.

    `E = mean over layers l, heads and queries of relu(∂s_l/∂A_l)`, where s_l is the target's score
    when the head reads the tokens that leave block l.
    """

    needs: ClassVar[frozenset[str]] = MODEL

    def unfit(self, net: Network, size: tuple[int, int]) -> str:
        """Why it does not hold: every block must be one that the head could read."""
        several = not_one_stream(net, size, "legrad")
        if several or all(hasattr(net, part) for part in ("blocks", "norm", "forward_head")):
            return several
        return (
            "legrad reads every block through the head, which is known of timm's networks only, "
            f"and not of {type(net).__name__}; load the same architecture from timm"
        )

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        net: Network = recorded.model.net
        stream = layout_of(net, recorded.size).streams[0]
        start = recorded.start_layer
        tokens: list[Tensor] = []
        hooks = [b.register_forward_hook(lambda _, __, out: tokens.append(out)) for b in net.blocks]
        try:
            with torch.enable_grad(), record_attention(recorded.model) as trace:
                recorded.model(recorded.images.detach())
        finally:
            for hook in hooks:
                hook.remove()
        total = torch.zeros(())
        with torch.enable_grad():
            for features, attention in list(zip(tokens, trace.maps))[start:]:
                score = recorded.scores_of(net.forward_head(net.norm(features))).sum()
                (gradient,) = torch.autograd.grad(score, attention, retain_graph=True)
                total = total.to(gradient) + gradient.relu().mean((1, 2))
        return stream_map(total.float(), stream, recorded.size)


METHODS.register("gradcam_block")(BlockGradCam())
METHODS.register("legrad")(LeGrad())
