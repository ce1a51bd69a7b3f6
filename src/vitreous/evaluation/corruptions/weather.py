"""Weather: snow, frost, fog, and bright light."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from vitreous.evaluation.corruptions.base import CORRUPTIONS, eight_bit, unit
from vitreous.evaluation.corruptions.blur import streak, zoom_centre

# Mean, deviation, size and threshold of the flakes; radius, deviation of their fall; kept color.
SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # image, ice
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))  # thickness, decay of its detail
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the HSV value
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@CORRUPTIONS.register("snow")
def snow(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Pale colors under flakes that fall at an angle, twice, the second time turned by 180°."""
    mean, deviation, size, threshold, radius, sigma, kept = SNOW[severity - 1]
    values = unit(image)
    layer = zoom_centre(generator.normal(mean, deviation, image.shape[:2])[..., None], size)[..., 0]
    layer[layer < threshold] = 0
    angle = float(generator.uniform(-135, -45))
    flakes = streak(eight_bit(layer).astype(np.uint8), radius, sigma, angle)[..., None] / 255
    pale = np.maximum(values, (values @ LUMA)[..., None] * 1.5 + 0.5)
    return eight_bit(kept * values + (1 - kept) * pale + flakes + np.rot90(flakes, 2))


@CORRUPTIONS.register("frost")
def frost(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Lay ice over the image. The ice is drawn (`ice`), where ImageNet-C has six photographs."""
    kept, added = FROST[severity - 1]
    height, width = image.shape[:2]
    return eight_bit(kept * unit(image) + added * ice(height, width, generator))


@CORRUPTIONS.register("fog")
def fog(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Add a cloud, and scale back to the image's brightest value."""
    thickness, decay = FOG[severity - 1]
    height, width = image.shape[:2]
    cloud = plasma(max(height, width), decay, generator)[:height, :width, None]
    values = unit(image)
    brightest = values.max()
    return eight_bit((values + thickness * cloud) * brightest / (brightest + thickness))


@CORRUPTIONS.register("brightness")
def brightness(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Raise the value of HSV; hue and saturation stay."""
    values = unit(image)
    value = values.max(axis=2, keepdims=True)
    raised = np.minimum(value + BRIGHTNESS[severity - 1], 1)
    return eight_bit(np.where(value > 0, values / np.maximum(value, 1e-9), 1) * raised)


def plasma(least: int, decay: float, generator: np.random.Generator) -> np.ndarray:
    """A cloud by midpoint displacement (diamond-square), periodic, in [0, 1].

    Args:
        least: Its side is the first power of two that is no less.
        decay: By how much the displacement shrinks each time the grid is halved.
        generator: Draws the displacements.
    """
    side = 1 << (least - 1).bit_length()
    cloud = np.zeros((side, side))
    step, spread = side, 100.0

    def displace(total: np.ndarray) -> np.ndarray:
        return total / 4 + spread * generator.uniform(-spread, spread, total.shape)

    while step >= 2:
        half = step // 2
        corners = cloud[::step, ::step]
        down, right = np.roll(corners, -1, 0), np.roll(corners, -1, 1)
        centers = displace(corners + down + right + np.roll(down, -1, 1))
        cloud[half::step, half::step] = centers
        cloud[::step, half::step] = displace(centers + np.roll(centers, 1, 0) + corners + right)
        cloud[half::step, ::step] = displace(centers + np.roll(centers, 1, 1) + corners + down)
        step, spread = half, spread / decay
    cloud -= cloud.min()
    return cloud / max(cloud.max(), 1e-12)


def ice(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Ice flowers drawn from noise, bluish white on dark glass.

    Ridges of noise at several scales, each drawn out along its own direction, over a cloud that
    says where the ice is thick. Brightness, contrast and the fall of the spectrum are spread as in
    the published photographs, whose crops of 224 px have means of .34 to .80, deviations of .05
    to .18 and power falling with the 1.3rd to 2.0th power of frequency.

    Returns:
        float64 (H, W, 3) in [0, 1].
    """
    ridges = sum(_ridges((height, width), scale, generator) for scale in (12, 6, 3, 1.5, 0.7, 0.35))
    cover = plasma(max(height, width), 1.9, generator)[:height, :width]
    thickness = _ranks(ridges + 0.5 * _ranks(cover))
    level, contrast = generator.uniform(0.4, 0.8), generator.uniform(0.2, 0.55)
    white = np.clip(level + contrast * (thickness - 0.5), 0, 1)[..., None]
    return np.clip(white + np.array([-0.06, 0.0, 0.04]), 0, 1)


def _ridges(shape: tuple[int, int], scale: float, generator: np.random.Generator) -> np.ndarray:
    """Sharp crests in [0, 1] where smooth noise changes its sign, drawn out to needles."""
    noise = generator.normal(size=shape)
    stretch = ((1.0, 3.0), (3.0, 1.0), (1.5, 1.5))[generator.integers(3)]
    smooth = ndimage.gaussian_filter(noise, tuple(scale * s for s in stretch), mode="wrap")
    return np.exp(-np.abs(smooth) / (0.5 * smooth.std()))


def _ranks(values: np.ndarray) -> np.ndarray:
    """The values' ranks, evenly from 0 to 1."""
    order = values.ravel().argsort(kind="stable")
    ranks = np.empty(values.size)
    ranks[order] = np.linspace(0, 1, values.size)
    return ranks.reshape(values.shape)
