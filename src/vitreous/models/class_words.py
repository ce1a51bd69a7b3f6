"""Names of classes for people: words for WordNet ids."""

from __future__ import annotations

import functools
import re

from timm.data import ImageNetInfo

WORDNET_ID = re.compile(r"n\d{8}")


def class_words(name: str) -> str:
    """Words for a WordNet id of ImageNet's 22,000 (`n04507155` → `umbrella`).

    Args:
        name: Name of a class. What is no such id stays as it is.
    """
    if not WORDNET_ID.fullmatch(name):
        return name
    try:
        return _table().label_name_to_description(name)
    except KeyError:
        return name


@functools.cache
def _table() -> ImageNetInfo:
    # Reading it takes a quarter of a second.
    return ImageNetInfo()
