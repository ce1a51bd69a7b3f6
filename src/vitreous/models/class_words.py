"""Names of classes: words for WordNet ids, and ImageNet's classes by their ids."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence

from timm.data import ImageNetInfo

logger = logging.getLogger(__name__)

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
def imagenet_index() -> dict[str, int]:
    """WordNet id → class index of ImageNet-1k."""
    return {name: index for index, name in enumerate(_table().label_names())}


def imagenet_labels(names: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """Places of WordNet ids in a head of ImageNet's 1000 classes.

    Args:
        names: What is to be placed.
        classes: Names of a model's classes.

    Returns:
        The class index of each name; None where one is no WordNet id of ImageNet's, or the model's
        classes are not ImageNet's.
    """
    index = imagenet_index() if names and len(classes) == 1000 else {}
    if any(name not in index for name in names) or not index:
        return None
    if list(classes) not in (list(index), [class_words(name) for name in index]):
        return None
    logger.warning(
        "%d classes are WordNet ids of ImageNet: their labels are places among the model's 1000",
        len(names),
    )
    return [index[name] for name in names]


@functools.cache
def _table() -> ImageNetInfo:
    # Reading it takes a quarter of a second.
    return ImageNetInfo()
