"""Data sources of a recipe: where pictures, labels and masks come from, and how they are split."""

from vitreous.data.readers.base import READERS, Reader, Split, split_by_class

__all__ = ["READERS", "Reader", "Split", "split_by_class"]
