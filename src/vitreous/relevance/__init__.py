"""Relevance maps: what in a picture a classifier's decision rests on.

A family says how tokens mix (`families`), a method how maps and gradients become relevance
(`methods`), and `relevance` is the one call that most users need. The package itself can be called
like it, so that `vitreous.relevance(model, images)` works beside `vitreous.relevance.METHODS`.
"""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

from torch import Tensor

from vitreous.relevance.base import METHODS, Context, Method
from vitreous.relevance.compute import Explanation, context_of_step, explain, relevance
from vitreous.relevance.maps import min_max

__all__ = [
    "METHODS",
    "Context",
    "Explanation",
    "Method",
    "context_of_step",
    "explain",
    "min_max",
    "relevance",
]


class _Callable(types.ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Tensor:
        return relevance(*arguments, **options)


__signature__ = inspect.signature(relevance)
sys.modules[__name__].__class__ = _Callable
