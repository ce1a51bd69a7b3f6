"""Gradients that half precision does not lose (the one loss scaling of the house); constants."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

import torch
from torch import Tensor, nn

FIRST_SCALE = 2.0**12
FIRST_KEPT_SCALE = 2.0**16
GROWTH_INTERVAL = 2000


def scaled_gradients(
    scalar: Tensor,
    inputs: Sequence[Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    half: bool = False,
    state: MutableMapping[str, Tensor] | None = None,
) -> list[Tensor]:
    """Derive a scalar; in fp16 it is scaled up meanwhile, because small gradients underflow.

    Where a scaled gradient overflows, the scale is halved and the same pass is derived again, so
    that no gradient is lost. Without a state the scale starts anew at 4096 in each call; a state
    keeps it (`loss_scale`, which starts at 65536, and `loss_scale_steps`), and doubles it after
    2000 steps without an overflow.

    Args:
        scalar: What to derive, for example the sum of the target logits.
        inputs: What to derive for.
        create_graph: Make the gradients differentiable themselves (second order).
        retain_graph: Keep the graph for a later backward pass.
        half: The pass was in fp16 although neither autocast nor the inputs' type shows it.
        state: Holds the scale from call to call; changed in place.

    Returns:
        One tensor an input, in float32 after a pass in fp16; zeros where the scalar does not
        depend on it.
    """
    if not (half or is_half_precision(*inputs)):
        gradients = torch.autograd.grad(
            scalar, inputs, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True
        )
        return _zeros_where_unused(gradients, inputs)

    def derive(scale: Tensor) -> Sequence[Tensor | None]:
        return torch.autograd.grad(
            scalar * scale, inputs, create_graph=create_graph, retain_graph=True, allow_unused=True
        )

    return _zeros_where_unused(scaled_up(derive, state, scalar.device), inputs)


def scaled_up(
    derive: Callable[[Tensor], Sequence[Tensor | None]],
    state: MutableMapping[str, Tensor] | None,
    device: torch.device,
) -> list[Tensor | None]:
    """Derive what is scaled up meanwhile, again by half the scale where a gradient overflows.

    Args:
        derive: A scale () → the gradients of a scalar times it; None for what it does not use.
        state: Of `scaled_gradients`; changed in place.
        device: Where a new scale lies.

    Returns:
        The gradients in float32, without the scale.
    """
    state = {"loss_scale": torch.tensor(FIRST_SCALE)} if state is None else state
    scale = state.setdefault("loss_scale", torch.tensor(FIRST_KEPT_SCALE, device=device))
    steps = state.setdefault("loss_scale_steps", torch.tensor(0, device=device))
    while True:
        gradients = derive(scale)
        finite = all(bool(g.isfinite().all()) for g in gradients if g is not None)
        if finite or scale.item() <= 1:
            break
        scale.mul_(0.5)
        steps.fill_(-1)
    unscaled = [None if g is None else g.float() / scale for g in gradients]
    _grow(scale, steps)
    return unscaled


def is_half_precision(*tensors: Tensor) -> bool:
    """Whether a pass over tensors is in fp16: by their type, or by autocast on their device."""
    return any(t.dtype == torch.float16 or _autocast_half(t.device.type) for t in tensors)


def _autocast_half(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def _grow(scale: Tensor, steps: Tensor) -> None:
    steps.add_(1)
    if steps.item() >= GROWTH_INTERVAL:
        scale.mul_(2)
        steps.zero_()


def _zeros_where_unused(
    gradients: Sequence[Tensor | None], inputs: Sequence[Tensor]
) -> list[Tensor]:
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs)]


def constant(value: object) -> object:
    """A parameter without its graph; anything else as it is."""
    return value.detach() if isinstance(value, nn.Parameter) else value
