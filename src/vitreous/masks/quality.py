"""How good a mask looks without knowing the truth, and which masks are dropped."""

from __future__ import annotations

import dataclasses

import numpy as np

REFERENCE = 224


@dataclasses.dataclass(frozen=True)
class Quality:
    """What can be said of a mask from the mask alone, and from a second opinion.

    Attributes:
        area: Share of the image that is foreground.
        pixels: Foreground pixels at 224×224.
        border: Share of the image's outermost pixels that are foreground.
        components: Connected parts (8 neighbours), those under 0.1 % of the image not counted.
        largest: Share of the foreground in its largest part.
        agreement: Intersection over union with a second method's mask, where one was asked.

    Examples:
        >>> mask = np.zeros((8, 8), dtype=bool)
        >>> mask[2:6, 2:6] = True
        >>> quality = measure(mask)
        >>> quality.area, quality.border, quality.components, quality.score
        (0.25, 0.0, 1, 1.0)
    """

    area: float
    pixels: float
    border: float
    components: int
    largest: float
    agreement: float | None = None

    @property
    def score(self) -> float:
        """Order of the contact sheet, 0 = worst, 1 = best; it is no probability.

        The product of the largest part's share, what of the border is free, how far the area is
        from nothing and from everything (1 from 5 % to 80 %), and the agreement if there is one.
        """
        size = min(self.area / 0.05, (1 - self.area) / 0.2, 1.0)
        agreement = 1.0 if self.agreement is None else self.agreement
        return max(size, 0.0) * self.largest * (1 - self.border) * agreement


@dataclasses.dataclass(frozen=True)
class Filters:
    """Which masks are dropped.

    Attributes:
        minimum_pixels: Least foreground at 224×224; RobustViT's published code uses 520.
        maximum_area: Largest share of the image.
        maximum_border: Largest share of the outermost pixels.
        maximum_components: Most connected parts; any number where not given.
        minimum_agreement: Least intersection over union with a second method.

    Examples:
        >>> Filters(maximum_area=0.5).reason(measure(np.ones((8, 8), dtype=bool)))
        'covers 100% of the image, at most 50%'
    """

    minimum_pixels: float = 520.0
    maximum_area: float = 1.0
    maximum_border: float = 1.0
    maximum_components: int | None = None
    minimum_agreement: float = 0.0

    def reason(self, quality: Quality) -> str:
        """Why a mask is dropped, in one line; empty where it is kept."""
        if quality.area == 0:
            return "no foreground"
        if quality.pixels < self.minimum_pixels:
            return (
                f"{quality.pixels:.0f} foreground pixels at {REFERENCE}×{REFERENCE}, "
                f"expected at least {self.minimum_pixels:g}"
            )
        if quality.area > self.maximum_area:
            return f"covers {quality.area:.0%} of the image, at most {self.maximum_area:.0%}"
        if quality.border > self.maximum_border:
            return f"covers {quality.border:.0%} of the border, at most {self.maximum_border:.0%}"
        if self.maximum_components is not None and quality.components > self.maximum_components:
            return f"{quality.components} separate parts, at most {self.maximum_components}"
        if quality.agreement is not None and quality.agreement < self.minimum_agreement:
            return (
                f"agrees with the second method to {quality.agreement:.2f} (IoU), expected at "
                f"least {self.minimum_agreement:g}"
            )
        return ""


def measure(mask: np.ndarray, second: np.ndarray | None = None) -> Quality:
    """Measure a mask.

    Args:
        mask: (H, W) bool.
        second: A second method's mask of the same image.

    Examples:
        >>> mask = np.zeros((8, 8), dtype=bool)
        >>> mask[2:6, 2:6] = True
        >>> measure(mask, second=mask).agreement, measure(mask).area
        (1.0, 0.25)
    """
    from scipy import ndimage

    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    outer = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    area = float(mask.mean())
    return Quality(
        area=area,
        pixels=area * REFERENCE * REFERENCE,
        border=float(outer.mean()),
        components=int((sizes >= 1e-3 * mask.size).sum()),
        largest=float(sizes.max() / sizes.sum()) if len(sizes) else 0.0,
        agreement=None if second is None else intersection_over_union(mask, second),
    )


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty.

    Args:
        first: (H, W) bool.
        second: (H, W) bool.

    Examples:
        >>> intersection_over_union(np.array([[True, True]]), np.array([[True, False]]))
        0.5
    """
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0
