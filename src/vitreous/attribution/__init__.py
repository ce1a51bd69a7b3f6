"""Relevance maps: what in a picture a classifier's decision rests on.

A family says how tokens mix (`families`), a method how maps and gradients become relevance
(`methods`), and `relevance` is the one call that most users need.
"""

from __future__ import annotations

from vitreous.attribution.base import METHODS, Context, Method
from vitreous.attribution.compute import Explanation, context_of_step, explain, relevance
from vitreous.attribution.maps import min_max

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
