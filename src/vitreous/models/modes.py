"""Borrow a model and give it back as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from torch import nn


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Generator[None]:
    """Put every submodule in evaluation mode, and each back in its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
