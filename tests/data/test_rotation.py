"""Views that turn, and grayscale: picture and mask move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vitreous.config import build
from vitreous.data.transforms import TRANSFORMS, compose


def random_image(height: int, width: int) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(1, 256, (height, width, 3), dtype=np.uint8))


def see(name: str, image: Image.Image, mask: Tensor | None = None, **settings):
    return compose([build(TRANSFORMS[name], settings)])(image, mask)


def array(image: Image.Image) -> Tensor:
    return torch.tensor(np.array(image)).permute(2, 0, 1)


def rounded(found: Tensor) -> Tensor:
    return (found * 255).round().byte()


@pytest.mark.parametrize(("quarter", "half", "angle"), [(1, 0, 90), (0, 1, 180), (1, 1, 270)])
def test_an_exact_quarter_turn_loses_nothing(quarter, half, angle) -> None:
    image = random_image(32, 48)
    found, _ = see("quarter_turn", image, quarter=float(quarter), half=float(half))
    assert torch.equal(rounded(found), array(image.rotate(angle, expand=True)))


@pytest.mark.parametrize("shape", [(256, 341), (340, 256), (64, 64)])
def test_the_legacy_turn_is_the_published_one_with_black_corners(shape) -> None:
    image = random_image(*shape)
    found, _ = see("quarter_turn", image, mode="legacy", quarter=1.0, half=0.0)
    published = array(image.rotate(90, expand=False))
    assert found.shape == published.shape
    # Where height − width is odd the centre lies between pixels, and libraries round apart.
    assert (rounded(found) != published).any(0).float().mean() < (
        0.01 if sum(shape) % 2 == 0 else 1
    )
    black = (found == 0).all(0).float().mean().item()
    assert black == pytest.approx(1 - min(shape) / max(shape), abs=0.01)


def test_quarter_turns_are_uniform_over_four() -> None:
    image = random_image(2, 2)
    view = compose([build(TRANSFORMS["quarter_turn"], {})])
    kinds = [array(image.rotate(angle)) for angle in (0, 90, 180, 270)]
    counts = torch.zeros(4)
    for _ in range(400):
        found, _ = view(image)
        counts += torch.tensor([torch.equal(rounded(found), kind) for kind in kinds])
    assert counts.sum() == 400 and (counts - 100).abs().max() < 40


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("quarter_turn", {}),
        ("quarter_turn", {"mode": "legacy"}),
        ("rotation", {"degrees": [-180, 180], "interpolation": "nearest"}),
        ("rotation", {"degrees": [30, 60], "interpolation": "nearest", "expand": True}),
        ("grayscale", {"p": 1.0}),
    ],
)
def test_masks_move_along(name, settings) -> None:
    """A picture that shows its own mask still shows it afterwards."""
    mask = torch.zeros(1, 40, 60)
    mask[:, 5:22, 30:55] = 1
    image = Image.fromarray((mask[0].numpy() * 255).astype(np.uint8)).convert("RGB")
    for _ in range(8):
        found, moved = see(name, image, mask, **settings)
        assert moved.shape[1:] == found.shape[1:]
        torch.testing.assert_close(found[:1], moved, rtol=0, atol=0.01)


def test_grayscale_takes_away_the_colour_of_a_share_of_pictures() -> None:
    image = random_image(8, 8)
    view = compose([build(TRANSFORMS["grayscale"], {"p": 0.25})])
    gray = 0
    for _ in range(200):
        found, _ = view(image)
        gray += bool((found[0] == found[1]).all() and (found[1] == found[2]).all())
    assert found.shape == (3, 8, 8) and 25 <= gray <= 75


def test_rotation_refuses_angles_in_the_wrong_order() -> None:
    with pytest.raises(Exception, match=r"degrees: expected least and largest"):
        build(TRANSFORMS["rotation"], {"degrees": [10, -10]})
