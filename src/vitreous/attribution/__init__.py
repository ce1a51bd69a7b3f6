"""Relevance maps: what in an image a classifier's decision rests on.

A family says how tokens mix (`families`), a method how maps and gradients become relevance
(`methods`), and `relevance` is the one call that most users need.
"""

from __future__ import annotations

from vitreous.attribution.base import METHODS, Method, RecordedPass
from vitreous.attribution.compute import Explanation, explain, explain_all, recorded_pass, relevance
from vitreous.attribution.maps import min_max
from vitreous.attribution.scores import foreground_share, pointing_hits

__all__ = [
    "METHODS",
    "Explanation",
    "Method",
    "RecordedPass",
    "explain",
    "explain_all",
    "foreground_share",
    "min_max",
    "pointing_hits",
    "recorded_pass",
    "relevance",
]
