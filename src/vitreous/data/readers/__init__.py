"""Where images, labels, masks and groups come from, and how a recipe splits them."""

from vitreous.data.readers.base import READERS, OnError, Reader, Split, split_by_class
from vitreous.data.readers.paths import read_dataset

__all__ = ["READERS", "OnError", "Reader", "Split", "read_dataset", "split_by_class"]
