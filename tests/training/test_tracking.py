"""Trackers get figures, and the relevance samples as images."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build
from vitreous.training import Recipe, train
from vitreous.training.run import RunFolder
from vitreous.training.tracking import log_samples


def test_tensorboard_has_the_samples_before_and_after(tmp_path: Path) -> None:
    write_masked_set(tmp_path / "set")
    training = {"epochs": 1, "batch_size": 6, "samples": 3, "trackers": ["tensorboard"]}
    train(build(Recipe, tiny_recipe(tmp_path / "set", training=training)), tmp_path / "run")
    steps: dict[str, list[int]] = {}
    for file in (tmp_path / "run").rglob("events.out.tfevents*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["images"]:
            steps[tag] = [image.step for image in events.Images(tag)]
            (image,) = events.Images(tag)
            assert (image.width, image.height) == (3 * 32, 32), "three beside each other"
    assert steps == {"samples/before": [0], "samples/after": [2]}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("wandb", ["samples/before"]),
        ("swanlab", ["samples/before"]),
        ("aim", ["samples/before/0", "samples/before/1"]),
        ("clearml", ["samples/before/0", "samples/before/1"]),
    ],
)
def test_each_tracker_is_given_images_in_its_own_form(name, keys, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.samples.mkdir()
    rows = []
    for index in range(2):
        Image.new("RGB", (4, 2), (index, 0, 0)).save(folder.samples / f"{index}_before.png")
        rows.append({"index": index, "files": {"before": f"{index}_before.png"}})

    (folder.samples / "samples.json").write_text(json.dumps(rows))
    seen: dict[str, Any] = {}

    def log_images(values: dict[str, Any], step: int) -> None:
        assert step == 7
        seen.update(values)

    taker = SimpleNamespace(name=name, log_images=log_images)
    accelerator: Any = SimpleNamespace(trackers=[SimpleNamespace(name="other"), taker])
    log_samples(accelerator, folder, "before", 7)
    log_samples(accelerator, folder, "after", 7)
    assert list(seen) == keys
    images = [image for value in seen.values() for image in (value if len(keys) == 1 else [value])]
    assert [image.shape for image in images] == [(2, 4, 3)] * 2
    assert [int(np.max(image)) for image in images] == [0, 1]
