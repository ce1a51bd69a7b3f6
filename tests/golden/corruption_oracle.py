"""Write `imagenet_c.npz`: what the PyPI package `imagenet-c` makes of one picture.

    uv venv oracle && uv pip install -p oracle "numpy<1.27" "scipy<1.11" "scikit-image==0.20.*" \
        "opencv-python-headless<4.9" "setuptools<80" "pillow<11" wand
    uv pip install -p oracle --no-deps imagenet-c imagecorruptions      # and ImageMagick 6
    PYTHONPATH=tests oracle/bin/python -m golden.corruption_oracle

Its calls of `np.random` are answered by a Generator of a known seed, so that random corruptions
too are compared pixel by pixel. The package comes without its photographs of frost (they are in
`imagecorruptions`, the same files): of frost only statistics are kept.
"""

from __future__ import annotations

import functools
import os
import warnings
from types import SimpleNamespace

import numpy as np

from golden.projection import FOLDER, project, sample

STRIDE = 23
SEED = 5
FROSTS = 40


def picture() -> np.ndarray:
    """Waves, stripes, a disc, grain, and a flat gray part: uint8 (224, 224, 3)."""
    y, x = np.mgrid[:224, :224] / 224.0
    channels = [0.5 + 0.4 * np.sin(7 * x + 3 * c) * np.cos(5 * y - c) for c in range(3)]
    image = np.stack(channels, axis=2)
    image[(x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.04] = (0.9, 0.2, 0.1)
    image[150:200, 20:90] = (np.arange(70) // 5 % 2)[None, :, None]
    image[10:40, 10:60] = 0.5
    image += np.random.Generator(np.random.PCG64(1)).normal(0, 0.03, image.shape)
    image[10:20, 10:60] = 0.5
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def statistics(image: np.ndarray) -> np.ndarray:
    """Mean, deviation, and the power of frequency with which the power of the gray image falls."""
    gray = image.mean(axis=2) / 255
    power = np.abs(np.fft.fft2(gray - gray.mean())) ** 2
    line = np.fft.fftfreq(gray.shape[0])
    radius = np.hypot(line[:, None], line)
    band = (radius > 0.01) & (radius < 0.4)
    slope = np.polyfit(np.log(radius[band]), np.log(power[band] + 1e-12), 1)[0]
    return np.array([gray.mean(), gray.std(), slope])


def main() -> None:
    """Write the file beside this script."""
    warnings.simplefilter("ignore")
    import imagecorruptions
    import imagenet_c
    import scipy.ndimage
    from imagenet_c import corruptions as published

    frost = os.path.join(os.path.dirname(imagecorruptions.__file__), "")
    published.resource_filename = lambda _, name: frost + name
    published.gaussian = functools.partial(_gaussian, scipy.ndimage.gaussian_filter)

    def corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
        draws = np.random.Generator(np.random.PCG64(seed))
        legacy = SimpleNamespace(
            normal=draws.normal,
            uniform=draws.uniform,
            poisson=draws.poisson,
            randint=draws.integers,
        )
        published.np = _Numpy(legacy)
        published.sk.util.random_noise.__globals__["np"] = _Numpy(
            SimpleNamespace(default_rng=lambda *_: draws, Generator=np.random.Generator)
        )
        return imagenet_c.corrupt(image, severity, name)

    image = picture()
    arrays = {"picture": image, "stride": np.array(STRIDE), "seed": np.array(SEED)}
    for name in imagenet_c.corruption_dict:
        for severity in range(1, 6):
            key = f"{name}/{severity}"
            if name == "frost":
                found = [statistics(corrupt(image, name, severity, s)) for s in range(FROSTS)]
                arrays[f"statistics/{key}"] = np.stack(found)
            else:
                result = corrupt(image, name, severity, SEED)
                arrays[f"sample/{key}"] = sample(result, STRIDE)
                arrays[f"projection/{key}"] = project(key, result)
    np.savez_compressed(FOLDER / "imagenet_c.npz", allow_pickle=False, **arrays)


class _Numpy:
    """numpy with another `random`."""

    def __init__(self, random: SimpleNamespace):
        self.random = random

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)


def _gaussian(filter_, image, sigma, multichannel=False, mode="nearest", truncate=4.0):
    """`skimage.filters.gaussian` with the argument that later versions took away."""
    sigmas = (sigma, sigma, 0) if multichannel else sigma
    return filter_(image, sigmas, mode=mode, truncate=truncate)


if __name__ == "__main__":
    main()
