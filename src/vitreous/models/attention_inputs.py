"""What attention maps are made from, recorded in place of the maps: n · d numbers, not n².

Fused attention never forms a map. Its queries, keys and values are seen on their way into the
kernel, by a mode that watches calls of `scaled_dot_product_attention`, so nothing of a model is
touched and every family that calls the kernel is seen after its own normalization and rotation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vitreous.models.families import attention_layers, layout_of
from vitreous.models.gradients import constant
from vitreous.models.kernel import (
    Arguments,
    NamedArguments,
    can_call_kernel,
    from_transformers,
    is_plain_call,
    multi_head,
    pooling_heads,
)
from vitreous.models.layout import Network

WHOLE = slice(None)
# From here on a recorded map and its gradient cost more than making both anew, block by block.
LEAST_TOKENS = 512


@dataclasses.dataclass(frozen=True)
class AttentionInputs:
    """Queries, keys and values of one layer's attention, and what it gave.

    Attributes:
        name: Module name of the attention layer.
        queries: (B, heads, Q, d), as the kernel got them.
        keys: (B, heads, K, d).
        values: (B, heads, K, d).
        output: (B, heads, Q, d), in the graph.
        scale: Factor of the scores before the softmax.
        held: Which tokens the queries are.
    """

    name: str
    queries: Tensor
    keys: Tensor
    values: Tensor
    output: Tensor
    scale: float
    held: slice


def inputs_pay(net: nn.Module, images: Tensor) -> bool:
    """Whether images (B, 3, H, W) have so many tokens that inputs serve better than maps.

    Raises:
        UnsupportedModelError: If the network is of no family whose tokens stay in place.
    """
    streams = layout_of(net, (images.shape[-2], images.shape[-1])).streams
    return max(stream.tokens for stream in streams) >= LEAST_TOKENS


def can_record_inputs(module: nn.Module) -> bool:
    """Whether all attention of a model can go through the fused kernel: no dropout, no bias."""
    if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting():
        return False  # ONNX has no operator for the backward of the fused kernel
    layers, pools = attention_layers(module), tuple(f"{h}." for h in pooling_heads(module))
    plain = (_is_plain(x) and not name.startswith(pools) for name, x in layers.items())
    return bool(layers) and all(plain)


def _is_plain(layer: Network) -> bool:
    if from_transformers(layer):
        biased = getattr(layer.config, "use_relative_position_bias", False)
        drops = getattr(layer, "attention_dropout", getattr(layer, "dropout", 0.0))
        return not biased and not (layer.training and drops)
    if isinstance(layer, nn.MultiheadAttention):
        return not (layer.training and layer.dropout)
    if isinstance(layer, AttentionPoolLatent):
        return True
    drops = layer.training and getattr(layer.attn_drop, "p", 0.0) > 0
    biased = getattr(layer, "relative_position_bias_table", None) is not None
    biased = biased or getattr(layer, "rel_pos", None) is not None
    fused = bool(getattr(layer, "fused_attn", False)) or can_call_kernel(layer)
    return fused and not drops and not biased


class InputRecorder(TorchFunctionMode):
    """Records every call of the fused kernel inside the context.

    Args:
        names: Names of the attention layers, in the order in which the pass calls them.
        held: Which queries a layer has, by name; all where it is not there.
        weight_gradients: Let gradients reach the weights. Without, the graph holds nothing that
            only they would need, and begins at the first attention.
    """

    def __init__(self, names: list[str], held: dict[str, slice], weight_gradients: bool = True):
        super().__init__()
        self.names, self.held, self.weight_gradients = names, held, weight_gradients
        self.layers: list[AttentionInputs] = []
        self.complete = True

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Arguments = (),
        kwargs: NamedArguments | None = None,
    ) -> object:
        """Call a function of torch; keep what goes into the kernel and what comes out."""
        kwargs = kwargs or {}
        if not self.weight_gradients:
            args = tuple(constant(value) for value in args)
            kwargs = {name: constant(value) for name, value in kwargs.items()}
        if func is F.multi_head_attention_forward and is_plain_call(args, kwargs):
            return multi_head(self._attend, args, kwargs)
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._record(result, args, kwargs)
        return result

    def _attend(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._record(F.scaled_dot_product_attention(*args, **kwargs), args, kwargs)

    def _record(self, output: Tensor, args: Arguments, kwargs: NamedArguments) -> Tensor:
        place = len(self.layers)
        # A mask, dropout or a causal order would change the map; what is not set does not.
        unusual = any(_is_set(value) for name, value in kwargs.items() if name != "scale")
        if place >= len(self.names) or len(args) != 3 or unusual:
            self.complete = False
            return output
        if torch.is_grad_enabled() and not output.requires_grad:
            output = output.detach().requires_grad_()  # with frozen weights the graph starts here
        name, (queries, keys, values) = self.names[place], args
        scale = kwargs.get("scale") or queries.shape[-1] ** -0.5
        held = self.held.get(name.removeprefix("net."), WHOLE)
        layer = AttentionInputs(name, queries, keys, values, output, float(scale), held)
        self.layers.append(layer)
        return output

    def recorded(self) -> tuple[AttentionInputs, ...] | None:
        """All layers, or None where a call was not plain or not every layer was seen."""
        seen = self.complete and len(self.layers) == len(self.names)
        return tuple(self.layers) if seen else None


def _is_set(value: object) -> bool:
    return isinstance(value, Tensor) or bool(value)
