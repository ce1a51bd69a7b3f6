"""Shape against texture: which of two conflicting cues answers follow (Geirhos et al. 2019)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from vitreous.results import wilson_interval
from vitreous.statistics import percentile_interval


@dataclasses.dataclass(frozen=True)
class ShapeBias:
    """Of the answers that are an image's shape or its texture, the share that is its shape.

    Attributes:
        share: The share; of several people the mean of theirs.
        shape: Answers that are the shape.
        texture: Answers that are the texture.
        images: Images whose cues are in conflict.
        interval: 95 %, over images; None where no answer is either cue.
    """

    share: float
    shape: int
    texture: int
    images: int
    interval: tuple[float, float] | None


def cues(name: str) -> tuple[str, str] | None:
    """Shape and texture of an image by its name; None for the name of something else.

    Examples:
        >>> cues("airplane1-bear2"), cues("bear_40_n02134084_5274")
        (('airplane', 'bear'), None)
    """
    match = re.fullmatch(r"([a-z]+)\d*-([a-z]+)\d*", Path(name).stem)
    return None if match is None else (match.group(1), match.group(2))


def shape_bias(
    names: Sequence[str],
    answers: np.ndarray,
    among: Collection[str] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> ShapeBias | None:
    """Measure shape bias on images whose shape and texture differ.

    Args:
        names: Name of each image, such as `airplane1-bear2`.
        answers: subjects × images, or images: the category answered; empty where there is none.
        among: The categories that could be answered; images with another cue are left out.
        resamples: Bootstrap samples over images, for several subjects; one has Wilson's interval.
        seed: Of the samples.

    Returns:
        The bias, or None where no image is named by its cues or all cues agree.

    Examples:
        >>> names = ["cat1-dog2", "dog1-cat1", "car3-dog1", "car1-car2"]
        >>> found = shape_bias(names, np.array(["cat", "cat", "car", "car"]))
        >>> round(found.share, 3), found.shape, found.texture, found.images
        (0.667, 2, 1, 3)
    """
    told = [cues(name) for name in names]
    places = [
        i
        for i, pair in enumerate(told)
        if pair is not None and pair[0] != pair[1] and (among is None or {*pair} <= set(among))
    ]
    if not places:
        return None
    pairs = np.array([told[i] for i in places])
    given = np.atleast_2d(answers)[:, places]
    shape, texture = given == pairs[:, 0], given == pairs[:, 1]
    one, other = int(shape.sum()), int(texture.sum())
    interval: tuple[float, float] | None
    if len(given) == 1:
        interval = wilson_interval(one, one + other)
    else:
        drawn = np.random.default_rng(seed).integers(0, len(places), (resamples, len(places)))
        interval = percentile_interval([_share(shape[:, d], texture[:, d]) for d in drawn])
    return ShapeBias(
        _share(shape, texture), one, other, len(places), interval if one + other else None
    )


def _share(shape: np.ndarray, texture: np.ndarray) -> float:
    """Mean over subjects of the share of shape among their decided answers."""
    one, both = shape.sum(axis=1), (shape | texture).sum(axis=1)
    decided = both > 0
    return float((one[decided] / both[decided]).mean()) if decided.any() else float("nan")
