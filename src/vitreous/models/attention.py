"""`record_attention`: the attention maps of forward passes, and their gradients, as a trace.

Maps are recorded by hooks on the dropout that every attention layer of timm applies to them; fused
attention never forms the map, so it is switched off inside the context and restored after. Where
a layer has no such dropout (other libraries), the map is formed in place of torch's kernel.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Mapping

import torch
from torch import Tensor, nn

from vitreous.errors import UnsupportedModelError
from vitreous.models.families import attention_layers, unsupported
from vitreous.models.gradients import scaled_gradients
from vitreous.models.kernel import KernelMaps, calls_kernel
from vitreous.models.layout import WITHOUT_ATTENTION, Network

WHOLE = slice(None)


@dataclasses.dataclass(frozen=True)
class RecordedLayer:
    """The attention map of one layer.

    Attributes:
        name: Module name of the attention layer.
        map: Attention after the softmax (B, heads, queries, keys).
        queries: Which of the layer's queries the rows of the map are.
    """

    name: str
    map: Tensor
    queries: slice


@dataclasses.dataclass
class AttentionTrace:
    """Attention maps in the order in which the forward pass made them.

    Attributes:
        layers: The recorded layers.

    Examples:
        >>> import vitreous
        >>> settings = {"pretrained": False, "image_size": 32, "depth": 3}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> with record_attention(model) as trace:
        ...     logits = model(torch.rand(2, 3, 32, 32))
        >>> len(trace.layers), trace.layers[2].name
        (3, 'net.blocks.2.attn')
    """

    layers: list[RecordedLayer] = dataclasses.field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Module names of the attention layers."""
        return [layer.name for layer in self.layers]

    @property
    def maps(self) -> list[Tensor]:
        """Attention after the softmax, each (B, heads, queries, keys)."""
        return [layer.map for layer in self.layers]

    def clear(self) -> None:
        """Forget what was recorded."""
        self.layers.clear()

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
        return scaled_gradients(
            scalar, self.maps[start:], create_graph=create_graph, retain_graph=retain_graph
        )


@dataclasses.dataclass(frozen=True, eq=False)
class RecordingHook:
    """A forward hook that appends an attention map to a trace.

    Attributes:
        trace: What it appends to.
        name: Module name of the attention layer.
        queries: Which of the layer's queries the map will hold; None where the user decides, who
            is shown whole maps.
    """

    trace: AttentionTrace
    name: str
    queries: slice | None = None

    def __call__(self, layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Record a map; where nothing before it needs a gradient, the graph starts here."""
        if torch.is_grad_enabled() and not output.requires_grad:
            output = output.detach().requires_grad_()
        self.trace.layers.append(RecordedLayer(self.name, output, self.queries or WHOLE))
        return output


@dataclasses.dataclass(frozen=True, eq=False)
class _MapRequired:
    """A forward hook of an attention layer that has a dropout for its map: it must have used it."""

    hook: RecordingHook

    def __call__(self, layer: nn.Module, _: tuple[Tensor, ...], __: object) -> None:
        if all(recorded.name != self.hook.name for recorded in self.hook.trace.layers):
            raise UnsupportedModelError(
                f"attention layer '{self.hook.name}' ({type(layer).__name__}) forms no attention "
                f"map that could be recorded; {WITHOUT_ATTENTION}"
            )


@contextlib.contextmanager
def record_attention(module: nn.Module) -> Generator[AttentionTrace]:
    """Record the attention maps of forward passes inside the context.

    The model is exactly as before afterwards, also after an exception: hooks are removed and
    fused attention is switched on again where it was. Maps stay in the graph, so that a loss of
    them reaches the weights. Where nothing before a map needs a gradient (frozen weights), the
    map becomes the start of the graph. The trace is cleared when a context ends by an exception.

    Args:
        module: A `Classifier` or any module with attention layers of timm, Hugging Face,
            torchvision or open_clip.

    Yields:
        A trace that each forward pass appends to; `trace.clear()` between passes.

    Raises:
        UnsupportedModelError: If the module has no attention that can be recorded.

    Examples:
        >>> import vitreous
        >>> settings = {"pretrained": False, "image_size": 32, "depth": 2}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> with record_attention(model) as trace:
        ...     logits = model(torch.rand(1, 3, 32, 32))
        >>> len(trace.maps), trace.maps[0].shape
        (2, torch.Size([1, 3, 5, 5]))
    """
    trace = AttentionTrace()
    with recording(module, lambda name: RecordingHook(trace, name)):
        try:
            yield trace
        except BaseException:
            trace.clear()
            raise


@contextlib.contextmanager
def recording(
    module: nn.Module, make_hook: Callable[[str], RecordingHook]
) -> Generator[Mapping[str, nn.Module]]:
    """Put a hook on every attention map inside the context, and switch fused attention off.

    Args:
        module: Has attention layers.
        make_hook: Makes the hook of a layer from its name.

    Yields:
        The attention layers by name.

    Raises:
        UnsupportedModelError: If the module has no attention that can be recorded.
    """
    layers = attention_layers(module)
    if not layers:
        raise unsupported(module, "has no attention maps that can be recorded")
    hooks = {name: make_hook(name) for name in layers}
    called = {name: layer for name, layer in layers.items() if calls_kernel(layer)}
    handles: list[torch.utils.hooks.RemovableHandle] = []
    fused: list[tuple[Network, bool]] = []
    try:
        for name in layers.keys() - called.keys():
            layer = layers[name]
            if hasattr(layer, "fused_attn"):
                fused.append((layer, layer.fused_attn))
                layer.fused_attn = False
            handles.append(layer.attn_drop.register_forward_hook(hooks[name]))
            if hooks[name].queries is None:
                handles.append(layer.register_forward_hook(_MapRequired(hooks[name])))
        with KernelMaps(called, hooks) if called else contextlib.nullcontext():
            yield layers
    finally:
        for handle in handles:
            handle.remove()
        for layer, flag in fused:
            layer.fused_attn = flag
