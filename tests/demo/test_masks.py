"""Masks that the demo finds by itself, reported beside the exact ones."""

from __future__ import annotations

import pytest
import torch

from helpers import TINY_MODEL
from vitreous.data.generated.scenes import World, sample_scenes
from vitreous.data.mask_files import read_mask
from vitreous.data.readers.generated import Generated, scenes_dataset
from vitreous.demo.masks import find_demo_masks
from vitreous.models import load_model


def test_the_demos_masks_are_written_for_training_and_compared_with_the_exact_ones(tmp_path):
    model = load_model(TINY_MODEL["name"], pretrained=False, image_size=48, **TINY_MODEL["options"])
    items = scenes_dataset(World(), sample_scenes(World(), 8, seed=3))
    record = find_demo_masks(model, items, tmp_path)
    files = [tmp_path / items.name(index) for index in range(8)]
    values = []
    for file, exact in zip(files, items.masks.masks):
        found = read_mask(file)
        assert found.shape == exact.shape
        both, either = (found * exact).sum(), ((found + exact) > 0).sum()
        values.append(float(both / either))
    assert record.value == pytest.approx(sum(values) / 8, abs=1e-5)
    assert record.metric == "mean_iou" and record.n == 8
    found = Generated(train=8, validation=4, masks=str(tmp_path), scenes_seed=3).load(0).train
    mask = found[5].mask
    assert mask is not None and torch.equal(mask, read_mask(files[5]))
