"""`record_attention`: the attention maps of one forward pass, and their gradients, as a trace.

Maps are recorded by hooks on the dropout that every attention layer of timm applies to them.
Fused attention never forms the map, so it is switched off inside the context and restored after.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

HALF_PRECISION_SCALE = 4096.0


@dataclasses.dataclass
class AttentionTrace:
    """Attention maps in the order in which the forward pass made them.

    Attributes:
        names: Module names of the attention layers.
        maps: Attention after the softmax, each (B, heads, queries, keys).
    """

    names: list[str] = dataclasses.field(default_factory=list)
    maps: list[Tensor] = dataclasses.field(default_factory=list)

    def clear(self) -> None:
        """Forget what was recorded."""
        self.names.clear()
        self.maps.clear()

    def gradients(
        self,
        scalar: Tensor,
        *,
        create_graph: bool = False,
        retain_graph: bool = True,
        start: int = 0,
    ) -> list[Tensor]:
        """Gradients of a scalar with respect to all maps, by one backward pass.

        Args:
            scalar: What to derive, for example the sum of the target logits.
            create_graph: Make the gradients differentiable themselves (second order).
            retain_graph: Keep the graph for a later backward pass.
            start: Index of the first map that is wanted; earlier layers are not derived.

        Returns:
            One tensor a map from `start` on; zeros where the scalar does not depend on the map.
        """
        wanted = self.maps[start:]
        return scaled_gradients(
            scalar, wanted, create_graph=create_graph, retain_graph=retain_graph
        )


def scaled_gradients(
    scalar: Tensor, inputs: Sequence[Tensor], *, create_graph: bool, retain_graph: bool
) -> list[Tensor]:
    """Derive a scalar; in fp16 it is scaled up meanwhile, because small gradients underflow.

    Returns:
        One tensor an input; zeros where the scalar does not depend on it.
    """
    device = scalar.device.type
    half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    half = half or any(one.dtype == torch.float16 for one in inputs)
    scale = HALF_PRECISION_SCALE if half else 1.0
    found = torch.autograd.grad(
        scalar * scale if half else scalar,
        inputs,
        create_graph=create_graph,
        retain_graph=retain_graph,
        allow_unused=True,
    )
    return [
        torch.zeros_like(one) if g is None else g.float() / scale if half else g
        for one, g in zip(inputs, found)
    ]


def attention_layers(module: nn.Module) -> dict[str, Any]:
    """Find the layers that apply a dropout to an attention map, by name, in forward order."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(getattr(layer, "attn_drop", None), nn.Module)
    }


@contextlib.contextmanager
def record_attention(module: nn.Module) -> Generator[AttentionTrace]:
    """Record the attention maps of forward passes inside the context.

    The model is exactly as before afterwards, also after an exception: hooks are removed and
    fused attention is switched on again where it was. Maps stay in the graph, so that a loss of
    them reaches the weights. Where nothing before a map needs a gradient (frozen weights), the
    map becomes the start of the graph. The trace is cleared when a context ends by an exception.

    Args:
        module: A `Classifier` or any module with timm's attention layers.

    Yields:
        A trace that each forward pass appends to; `trace.clear()` between passes.
    """
    trace = AttentionTrace()
    handles: list[torch.utils.hooks.RemovableHandle] = []
    fused: list[tuple[Any, bool]] = []

    def hook(name: str):
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if torch.is_grad_enabled() and not output.requires_grad:
                output = output.detach().requires_grad_()
            trace.names.append(name)
            trace.maps.append(output)
            return output

        return keep

    try:
        for name, layer in attention_layers(module).items():
            if hasattr(layer, "fused_attn"):
                fused.append((layer, layer.fused_attn))
                layer.fused_attn = False
            handles.append(layer.attn_drop.register_forward_hook(hook(name)))
        yield trace
    except BaseException:
        trace.clear()
        raise
    finally:
        for handle in handles:
            handle.remove()
        for layer, flag in fused:
            layer.fused_attn = flag
