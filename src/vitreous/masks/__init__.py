"""Foreground masks from anything: readers, TokenCut, saliency networks, the model itself.

| part | what is in it |
| --- | --- |
| `methods` | one file for each kind of mask; `MASK_METHODS` is the registry |
| `tokencut` | the method, as functions on tensors |
| `eigenvectors` | its partial solvers, on CPU or GPU |
| `edges` | refinement of coarse masks by the image's own edges |
| `quality` | what a mask looks like, and which masks are dropped |
| `folder` | the one form on disk: PNG files and a manifest; resumable |
| `sheet` | the contact sheet, worst first |
"""

from vitreous.masks.base import MASK_METHODS, Found, MaskError, MaskItem, MaskMethod
from vitreous.masks.edges import EDGES
from vitreous.masks.folder import write_masks
from vitreous.masks.manifest import MaskFolder
from vitreous.masks.quality import Filters, Quality, intersection_over_union, measure
from vitreous.masks.sheet import write_sheet
from vitreous.masks.tokencut import tokencut_masks

__all__ = [
    "EDGES",
    "MASK_METHODS",
    "Filters",
    "Found",
    "MaskError",
    "MaskFolder",
    "MaskItem",
    "MaskMethod",
    "Quality",
    "intersection_over_union",
    "measure",
    "tokencut_masks",
    "write_masks",
    "write_sheet",
]
