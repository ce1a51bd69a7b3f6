"""One recorded forward pass: whatever is to be decided about a pass is decided here.

Attention is recorded or fused, the last block is spared what no head reads or whole, gradients are
kept or not, and can be derived twice or once. Other rooms call the classifier, or ask for a
recording with one call, and know no more of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitreous.models import head_tokens
from vitreous.models.attention import WHOLE, AttentionTrace, RecordingHook, recording
from vitreous.models.attention_inputs import AttentionInputs, InputRecorder, can_record_inputs
from vitreous.models.families import attention_layers
from vitreous.models.gradients import is_half_precision
from vitreous.models.halved_pass import HalvedPass, can_halve, halved_pass
from vitreous.models.hugging_face import takes_any_size
from vitreous.models.input_size import check_input_size
from vitreous.models.kernel import kernel_called
from vitreous.models.layout import Network
from vitreous.models.recomputation import made_under
from vitreous.models.timm_blocks import is_foreign


@dataclasses.dataclass(frozen=True)
class ForwardPass:
    """What went into a forward pass, and what came of it.

    Attributes:
        images: (B, 3, H, W) in [0, 1]; they require a gradient where that was asked for.
        logits: (B, C).
        trace: Attention maps, where they were asked for.
        inputs: What the maps are made from, in their place, where that was enough.
        halves: What the halves of blocks are made from, in the place of both, where that was.
        maps: Relevance maps (B, 1, H, W) that were made in the pass itself, and which (B,) of them
            are constant.
        derived: Gradients (B, 3, H, W) for the images that were made in the pass itself, by what
            they are of.
    """

    images: Tensor
    logits: Tensor
    trace: AttentionTrace | None = None
    inputs: tuple[AttentionInputs, ...] = ()
    halves: HalvedPass | None = None
    maps: tuple[Tensor, Tensor] | None = None
    derived: Mapping[object, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def recorded(self) -> bool:
        """Whether attention was recorded, as maps or as what they are made from."""
        other = self.halves is not None or self.maps is not None
        return self.trace is not None or bool(self.inputs) or other

    @property
    def attention(self) -> AttentionTrace:
        """The attention maps, for those that asked for them."""
        if self.trace is None:
            raise RuntimeError("this pass was not recorded: add 'attention' to `needs`")
        return self.trace


def forward_logits(net: nn.Module, x: Tensor) -> Tensor:
    """Logits (B, C) of normalised images (B, 3, H, W), by the cheapest pass that is the same.

    The last block of a plain Vision Transformer is spared what its head does not read; any other
    network is called as it is, and of an output with `.logits` those are taken. Neither changes
    anything of the network.

    Raises:
        VitreousError: If the network does not take images of this size.
    """
    check_input_size(net, x.shape[-2], x.shape[-1])
    tokens = head_tokens.read_by_head(net)
    if tokens:
        return head_tokens.logits_of_head_tokens(net, x, tokens)
    output = net(x, **takes_any_size(net, x.shape[-2], x.shape[-1]))
    return getattr(output, "logits", output)


def record_forward(
    model: Network,
    images: Tensor,
    *,
    attention: bool = False,
    inputs_suffice: bool = False,
    input_gradient: bool = False,
    second_order: bool = False,
    weight_gradients: bool = True,
    classifier: nn.Module | None = None,
) -> ForwardPass:
    """Make one forward pass and keep of it what is asked for.

    The graph is kept wherever something is recorded, also where gradients are switched off
    around the call; without anything to record the pass is made as the caller's mode says.

    Args:
        model: A `Classifier`, wrapped or compiled if need be; images in [0, 1] → logits.
        images: (B, 3, H, W) in [0, 1].
        attention: Record the attention maps. Of the last layer there may be only those queries
            that the head reads: each recorded layer says which it has.
        inputs_suffice: Record queries, keys and values in place of the maps, where the model
            allows it; memory is then linear in the tokens.
        input_gradient: Let the images require a gradient; the pass can then be derived twice.
        second_order: Let the pass be derived twice.
        weight_gradients: Let gradients reach the weights; without them a pass that records inputs
            holds less, and on a CPU keeps of a plain Vision Transformer, or of a CrossViT, what
            goes into the halves of its blocks alone.
        classifier: The classifier inside `model`, where that is a wrapper.

    Raises:
        UnsupportedModelError: If attention is asked for and the model has none to be recorded.
    """
    if attention and inputs_suffice and not (second_order or input_gradient):
        if not weight_gradients and _halves_pay(model, images):
            with gradients_enabled():
                normalized = model.normalized(images.clone() if images.is_inference() else images)
                logits, halves = halved_pass(model.net, normalized)
            return ForwardPass(images, logits, halves=halves)
        made = _record_inputs(model, images, classifier or model, weight_gradients)
        if made is not None:
            return made
    trace = AttentionTrace() if attention else None
    twice = input_gradient or second_order
    with contextlib.ExitStack() as stack:
        if attention or input_gradient:
            stack.enter_context(gradients_enabled())
        if images.is_inference() and not torch.is_inference_mode_enabled():
            images = images.clone()
        if input_gradient and not images.requires_grad:
            images = images.detach().requires_grad_()
        watched = classifier or model
        first = _made_by(trace, watched, twice)

        def again() -> AbstractContextManager[None]:
            return _made_by(None if trace is None else AttentionTrace(), watched, twice)

        stack.enter_context(made_under(first, again))
        return ForwardPass(images, model(images), trace)


def _halves_pay(model: Network, images: Tensor) -> bool:
    """Whether a classifier can be halved, and blocks are how its relevance is made."""
    net = getattr(model, "net", None)
    if images.device.type != "cpu" or is_half_precision(images) or net is None:
        return False
    if not hasattr(model, "normalized") or is_foreign(model) or torch.compiler.is_exporting():
        return False
    return can_halve(net)


@contextlib.contextmanager
def _made_by(trace: AttentionTrace | None, classifier: nn.Module, twice: bool) -> Generator[None]:
    """Record in a trace, if there is one, by kernels that can be derived as often as needed."""
    with contextlib.ExitStack() as stack:
        if twice:  # the only attention kernel that can be derived twice
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if trace is not None:
            stack.enter_context(_recorded_by(trace, classifier))
        yield


def _record_inputs(
    model: nn.Module, images: Tensor, classifier: nn.Module, weight_gradients: bool
) -> ForwardPass | None:
    """A pass through the fused kernel, or None where that would not see all attention."""
    if not can_record_inputs(classifier):
        return None
    layers, held = attention_layers(classifier), _held(classifier) or {}
    make_recorder = functools.partial(InputRecorder, list(layers), held, weight_gradients)
    recorder = make_recorder()
    with gradients_enabled(), kernel_called(list(layers.values())):
        images = images.clone() if images.is_inference() else images
        with made_under(recorder, lambda: _seen_by(make_recorder(), layers)):
            logits = model(images)
    inputs = recorder.recorded()
    return None if inputs is None else ForwardPass(images, logits, inputs=inputs)


@contextlib.contextmanager
def _seen_by(recorder: InputRecorder, layers: Mapping[str, nn.Module]) -> Generator[None]:
    with kernel_called(list(layers.values())), recorder:
        yield


@contextlib.contextmanager
def gradients_enabled() -> Generator[None]:
    """Make graphs inside the context, also inside of `no_grad` and of `inference_mode`.

    A pass that is compiled is compiled where they are made.
    """
    if torch.compiler.is_compiling():
        yield
        return
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


@contextlib.contextmanager
def _recorded_by(trace: AttentionTrace, classifier: nn.Module) -> Generator[None]:
    with recording(classifier, make_recording_hook(trace, classifier)):
        yield


def make_recording_hook(
    trace: AttentionTrace, classifier: nn.Module
) -> Callable[[str], RecordingHook]:
    """How hooks are made that record in a trace, which says what a spared pass has of a layer."""
    held = _held(classifier)

    def make_hook(name: str) -> RecordingHook:
        if held is None:
            return RecordingHook(trace, name)
        return RecordingHook(trace, name, held.get(name.removeprefix("net."), WHOLE))

    return make_hook


def _held(classifier: nn.Module) -> dict[str, slice] | None:
    net = getattr(classifier, "net", None)
    return head_tokens.held_queries(net) if isinstance(net, nn.Module) else None
