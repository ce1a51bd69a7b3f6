"""An overlay leaves what is looked at, and what is not, recognisable."""

from __future__ import annotations

import torch

from vitreous.attribution.draw import overlay


def test_colours_of_an_image_stay_recognisable_under_any_map():
    red, blue = torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.8])
    image = torch.stack([red, blue], 1).view(3, 1, 2)
    for level in (0.0, 0.5, 1.0):
        shown = overlay(image, torch.full((1, 1, 2), level))
        assert shown[0, 0, 0] > shown[0, 0, 1] and shown[2, 0, 1] > shown[2, 0, 0]
    quiet = overlay(image, torch.zeros(1, 1, 2))
    # lighter, not darker: today's was half as bright as the image
    assert (quiet.mean(0) >= image.mean(0)).all()
    assert quiet[0, 0, 0] - quiet[2, 0, 0] > 0.3


def test_what_is_relevant_stands_out():
    image = torch.full((3, 1, 2), 0.5)
    shown = overlay(image, torch.tensor([[[0.0, 1.0]]]))
    assert (shown[:, 0, 1] - shown[:, 0, 0]).abs().max() > 0.2
