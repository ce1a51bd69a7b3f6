"""Data sources of a recipe: where pictures, labels and masks come from, and how they are split."""

from vitreous.data.sources.base import SOURCES, Source, Split, split_by_class

__all__ = ["SOURCES", "Source", "Split", "split_by_class"]
