"""Attention that goes through one call of torch: Hugging Face, torchvision, open_clip, poolers.

Those layers hand queries, keys and values to `scaled_dot_product_attention`, or everything to
`multi_head_attention_forward`, and never show a map. A mode that watches the two calls sees what
goes in, so that the map can be formed there, and nothing of a model is touched but a setting of
Hugging Face's that says which kernel to call; it is put back.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.crossvit import CrossAttention
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vitreous.errors import UnsupportedModelError
from vitreous.models.layout import WITHOUT_ATTENTION, Network

Arguments = tuple[Any, ...]
"""Of a function of torch, whatever it is."""
NamedArguments = dict[str, Any]
Attend = Callable[..., Tensor]
"""As `scaled_dot_product_attention`: queries, keys and values to one of (B, heads, N, d)."""


def from_transformers(module: nn.Module) -> bool:
    """Whether a module is one of Hugging Face's models, or a part of one."""
    return type(module).__module__.startswith("transformers.models.")


def kernel_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Find the attention layers that call torch's kernel and form no map, in forward order.

    A pooling head within an image classifier of Hugging Face's is no such layer: they do not read
    it.
    """
    owners = [
        f"{name}." if name else ""
        for name, part in module.named_modules()
        if from_transformers(part) and type(part).__name__.endswith("ForImageClassification")
    ]
    unread = tuple(f"{h}." for h in pooling_heads(module) if h.startswith(tuple(owners)))
    return {
        name: layer
        for name, layer in module.named_modules()
        if calls_kernel(layer) and not name.startswith(unread)
    }


def pooling_heads(module: nn.Module) -> list[str]:
    """Names of Hugging Face's heads that pool by attention of a learned query."""
    return [
        name
        for name, part in module.named_modules()
        if from_transformers(part) and type(part).__name__.endswith("PoolingHead")
    ]


def calls_kernel(layer: Network) -> bool:
    """Whether a layer is attention that calls torch's kernel and forms no map."""
    if isinstance(layer, nn.MultiheadAttention | AttentionPoolLatent):
        return True
    return from_transformers(layer) and hasattr(layer, "config") and hasattr(layer, "is_causal")


def can_call_kernel(layer: nn.Module) -> bool:
    """Whether a layer that forms its map can be let call the kernel: CrossViT's fusion."""
    return isinstance(layer, CrossAttention) and "forward" not in vars(layer)


@contextlib.contextmanager
def kernel_called(layers: Iterable[Network]) -> Generator[None]:
    """Let layers call torch's kernel inside the context, whatever kernel they are set to."""
    configs = {id(x.config): x.config for x in layers if from_transformers(x)}
    kernels = [(config, config._attn_implementation) for config in configs.values()]
    pools: list[tuple[Network, bool]]
    pools = [(x, x.fused_attn) for x in layers if isinstance(x, AttentionPoolLatent)]
    crossing = [x for x in layers if can_call_kernel(x)]
    try:
        for config, _ in kernels:
            config._attn_implementation = "sdpa"
        for pool, _ in pools:
            pool.fused_attn = True
        for layer in crossing:
            vars(layer)["forward"] = functools.partial(_cross_attention, layer)
        yield
    finally:
        for layer in crossing:
            del vars(layer)["forward"]
        for config, kernel in kernels:
            config._attn_implementation = kernel
        for pool, fused in pools:
            pool.fused_attn = fused


def _cross_attention(layer: Network, x: Tensor) -> Tensor:
    """What timm's cross-attention computes for its CLS token, by torch's kernel."""
    split = functools.partial(torch.unflatten, dim=-1, sizes=(layer.num_heads, -1))
    parts = (layer.wq(x[:, :1]), layer.wk(x), layer.wv(x))
    q, k, v = (split(part).transpose(1, 2) for part in parts)
    dropout = layer.attn_drop.p if layer.training else 0.0
    options: NamedArguments = {"dropout_p": dropout} if dropout else {}
    mixed = F.scaled_dot_product_attention(q, k, v, scale=layer.scale, **options)
    return layer.proj_drop(layer.proj(mixed.transpose(1, 2).flatten(2)))


class KernelMaps(TorchFunctionMode):
    """Forms the attention map of every named layer inside the context, and shows it to a hook.

    Args:
        layers: Attention layers by name.
        hooks: For each name what is called as a forward hook is, with the layer, no arguments,
            and the map (B, heads, queries, keys); the map that it returns is used.

    Raises:
        UnsupportedModelError: In a forward pass, if a layer ends without having made a map.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        hooks: Mapping[str, Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]],
    ):
        super().__init__()
        self.layers, self.hooks = layers, hooks
        self.current: str | None = None
        self.made = False
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> KernelMaps:
        """Watch the layers."""
        self.stack.enter_context(kernel_called(list(self.layers.values())))
        for name, layer in self.layers.items():
            for handle in self._watch(name, layer):
                self.stack.callback(handle.remove)
        super().__enter__()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        """Leave the layers as they were."""
        try:
            super().__exit__(exc_type, exc_val, exc_tb)
        finally:
            self.stack.close()

    def _watch(self, name: str, layer: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
        def begin(_: nn.Module, __: object) -> None:
            self.current, self.made = name, False

        def end(_: nn.Module, __: object, ___: object) -> None:
            self.current = None
            if not self.made:
                raise UnsupportedModelError(
                    f"attention layer '{name}' ({type(layer).__name__}) made no map that can be "
                    f"recorded; {WITHOUT_ATTENTION}"
                )

        return [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Arguments = (),
        kwargs: NamedArguments | None = None,
    ) -> object:
        """Call a function of torch; attention of a watched layer is computed by way of its map."""
        kwargs = kwargs or {}
        if self.current is not None:
            if func is F.scaled_dot_product_attention:
                return self._attend(*args, **kwargs)
            if func is F.multi_head_attention_forward and is_plain_call(args, kwargs):
                return multi_head(self._attend, args, kwargs)
        return func(*args, **kwargs)

    def _attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        name = self.current or ""
        scale = queries.shape[-1] ** -0.5 if scale is None else scale
        scores = (queries * scale) @ keys.transpose(-2, -1)
        if attn_mask is not None:
            allowed = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if allowed else scores + attn_mask
        attention = F.dropout(scores.softmax(-1), dropout_p) if dropout_p else scores.softmax(-1)
        if not is_causal:
            attention = self.hooks[name](self.layers[name], (), attention)
            self.made = True
        return attention.to(values.dtype) @ values


def is_plain_call(args: Arguments, kwargs: NamedArguments) -> bool:
    """Whether a call of `multi_head_attention_forward` is attention over tokens and no more."""
    unusual = ("key_padding_mask", "use_separate_proj_weight", "static_k", "static_v", "is_causal")
    return not any(args[7:10]) and not any(
        isinstance(kwargs.get(name), Tensor) or kwargs.get(name) for name in unusual
    )


def multi_head(
    attend: Attend, args: Arguments, kwargs: NamedArguments
) -> tuple[Tensor, Tensor | None]:
    """What `multi_head_attention_forward` computes in a plain call, by way of an attention.

    Args:
        attend: Computes the attention of the heads.
        args: Its arguments: tokens are (N, B, width).
        kwargs: Its named arguments.

    Returns:
        Tokens (N, B, width), and no weights: what is recorded has them.
    """
    queries, keys, values, _, heads, weight, bias = args[:7]
    dropout, out_weight, out_bias = args[10:13]
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    parts = zip((queries, keys, values), weight.chunk(3), biases)
    # (N, B, width) → (B, heads, N, width of a head)
    q, k, v = (F.linear(*p).unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for p in parts)
    options = {"attn_mask": kwargs.get("attn_mask")}
    if kwargs.get("training") and dropout:
        options["dropout_p"] = dropout
    mixed = attend(q, k, v, **{name: o for name, o in options.items() if o is not None})
    return F.linear(mixed.permute(2, 0, 1, 3).flatten(2), out_weight, out_bias), None
