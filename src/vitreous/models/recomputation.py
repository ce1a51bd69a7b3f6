"""Gradient checkpointing: what a block computed is let go, and computed again when derived.

A pass that records attention is not the pass of the same network without: maps are formed where the
fused kernel was, hooks look on, another kernel may be chosen. A block is therefore computed again
under what its first pass was made under; what recorded the first time looks away the second.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vitreous.models.blocks import transformer_blocks

Context = Callable[[], AbstractContextManager[object]]
_again: contextvars.ContextVar[Context] = contextvars.ContextVar(
    "_again", default=contextlib.nullcontext
)


def recompute_blocks(classifier: nn.Module) -> None:
    """Let every block but the last compute again what the backward pass needs of it.

    What the last one holds is needed first, so letting it go would save nothing. Numbers, names of
    weights, and passes without gradients stay as they are.

    Raises:
        UnsupportedModelError: If the network has no blocks with attention.
    """
    for block in list(transformer_blocks(classifier).values())[:-1]:
        vars(block)["forward"] = functools.partial(_forward, block)


@contextlib.contextmanager
def made_under(first: AbstractContextManager[object], again: Context) -> Generator[None]:
    """Make a pass under one context, and what of it is computed again under another."""
    token = _again.set(again)
    try:
        with first:
            yield
    finally:
        _again.reset(token)


class _Renewed:
    """A context that can be entered once for each backward pass, made anew each time."""

    def __init__(self, make: Context):
        self.make = make
        self.entered: list[contextlib.ExitStack] = []

    def __enter__(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.make())
            self.entered.append(stack.pop_all())

    def __exit__(self, *error: Any) -> None:
        self.entered.pop().__exit__(*error)


def _forward(block: nn.Module, *arguments: Any, **named: Any) -> Any:
    own = functools.partial(type(block).forward, block)
    if not torch.is_grad_enabled():
        return own(*arguments, **named)
    again = _Renewed(_again.get())
    return checkpoint(
        own,
        *arguments,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), again),
        **named,
    )
