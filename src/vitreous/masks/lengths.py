"""COCO's run lengths: columns from the left, runs of background and foreground in turn.

They are decoded here and not by pycocotools, which trusts them: lengths that do not add up to the
image leave it memory that was never written, or end the process.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitreous.masks.base import MaskError


def decode_lengths(counts: str | bytes | Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Decode run lengths to a mask (H, W) bool.

    Args:
        counts: Lengths, or their compressed text; background comes first.
        size: Width and height of the image.

    Raises:
        MaskError: If they are no lengths, or do not cover exactly the image.
    """
    lengths = _uncompressed(counts) if isinstance(counts, str | bytes) else list(counts)
    if not all(type(length) is int and length >= 0 for length in lengths):
        raise MaskError("a run-length mask has lengths that are not 0 or more")
    width, height = size
    if sum(lengths) != width * height:
        raise MaskError(
            f"a run-length mask covers {sum(lengths)} of {width * height} pixels: it is cut short "
            "or of another picture"
        )
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def _uncompressed(text: str | bytes) -> list[int]:
    """Numbers of 5 bits a character, least first; from the third on, differences to two before."""
    characters = text.encode("ascii", "replace") if isinstance(text, str) else text
    lengths: list[int] = []
    value = shift = 0
    for character in characters:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            raise MaskError("a run-length mask has characters that are none of COCO's")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise MaskError("a run-length mask is cut short")
    return lengths
