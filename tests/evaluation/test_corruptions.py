"""The corruptions of ImageNet-C against the published package, pixel by pixel where it can be."""

from __future__ import annotations

import numpy as np
import pytest

from golden.corruption_oracle import statistics
from golden.projection import load, project, sample
from vitreous.data.class_maps import class_map
from vitreous.errors import VitreousError
from vitreous.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt

GOLDEN = load("imagenet_c")
PICTURE = GOLDEN["picture"]
ELASTIC = (6, 0.8)  # OpenCV looks up places in steps of 1/32 pixel
# Largest difference of a sampled value, root mean square of all, in levels of 255.
TOLERANCES = {"elastic_transform": ELASTIC, "jpeg_compression": (3, 0.5)}  # libjpeg's versions
USUAL = (1, 0.2)
COMPARED = [name for name in CORRUPTIONS if name != "frost"]


def generator(seed: int = int(GOLDEN["seed"])) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", COMPARED)
def test_the_published_package_makes_the_same(name: str, severity: int) -> None:
    """From the same random draws."""
    key, picture = f"{name}/{severity}", PICTURE.copy()
    found = corrupt(picture, name, severity, generator())
    assert found.dtype == np.uint8 and np.array_equal(picture, PICTURE)
    largest, spread = TOLERANCES.get(name, USUAL)
    taken = sample(found, int(GOLDEN["stride"])).astype(int)
    assert np.abs(taken - GOLDEN[f"sample/{key}"]).max() <= largest
    projected = project(key, found) - GOLDEN[f"projection/{key}"]
    assert np.sqrt((projected**2).mean() / found.size) <= spread


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost_has_the_statistics_of_the_published_one(severity: int) -> None:
    """Mean, deviation and fall of the spectrum: averages within the spread over its photographs."""
    published = GOLDEN[f"statistics/frost/{severity}"]
    found = [statistics(corrupt(PICTURE, "frost", severity, generator(s))) for s in range(12)]
    difference = np.abs(np.mean(found, 0) - published.mean(0))
    assert (difference <= published.std(0)).all()
    assert np.std(found, 0)[0] > 0.3 * published.std(0)[0]  # frosts differ


def test_the_names_are_imagenet_cs() -> None:
    groups = class_map("imagenet_c")["groups"]
    paper = {n for g in ("noise", "blur", "weather", "digital") for n in groups[g]}
    assert len(paper) == 15
    assert set(CORRUPTIONS) == paper | (set(groups["extra"]) - {"spatter"})


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_any_size_and_the_same_from_the_same_seed(name: str) -> None:
    image = PICTURE[30:127, 20:81].copy()
    first, again, other = (corrupt(image, name, 3, generator(s)) for s in (1, 1, 2))
    assert first.shape == image.shape
    assert np.array_equal(first, again)
    drawn = name.endswith("noise") or name in ("snow", "frost", "fog", "elastic_transform")
    drawn |= name in ("glass_blur", "motion_blur")
    assert np.array_equal(first, other) != drawn
    black = corrupt(np.zeros((33, 20, 3), np.uint8), name, 5, generator())
    assert black.shape == (33, 20, 3)


def test_what_is_no_image_or_no_severity_is_told() -> None:
    for image in (PICTURE / 255, PICTURE[..., 0], PICTURE[..., :2]):
        with pytest.raises(VitreousError, match="expected an RGB image"):
            corrupt(image, "fog", 1, generator())
    with pytest.raises(VitreousError, match="expected 1 to 5, found 0"):
        corrupt(PICTURE, "fog", 0, generator())
    with pytest.raises(VitreousError, match="gaussian_noise"):
        corrupt(PICTURE, "gausian_noise", 1, generator())
