"""The relevance samples of a run as images of its trackers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from vitreous.io import read_json
from vitreous.training.run import RunFolder

# They take an image under a name; the others a list of them.
SINGLE = ("aim", "clearml")


def log_samples(accelerator: Accelerator, folder: RunFolder, when: str, step: int) -> None:
    """Show the samples drawn `before` or `after` the training in each tracker that takes images.

    Args:
        accelerator: With its trackers.
        folder: Of the run; its samples are read.
        when: Which of them.
        step: Optimiser steps done.
    """
    listing = folder.samples / "samples.json"
    takers = [tracker for tracker in accelerator.trackers if hasattr(tracker, "log_images")]
    if not takers or not listing.is_file():
        return
    files = [row["files"].get(when) for row in read_json(listing)]
    images = [_pixels(folder, file) for file in files if file]
    for tracker in takers if images else ():
        _log(tracker, f"samples/{when}", images, step)


def _pixels(folder: RunFolder, file: str) -> np.ndarray:
    with Image.open(folder.samples / file) as image:
        return np.array(image.convert("RGB"))


def _log(tracker: Any, name: str, images: Sequence[np.ndarray], step: int) -> None:
    if tracker.name == "tensorboard":
        tracker.log_images({name: np.stack(images)}, step=step, dataformats="NHWC")
    elif tracker.name in SINGLE:
        tracker.log_images({f"{name}/{i}": image for i, image in enumerate(images)}, step=step)
    else:
        tracker.log_images({name: list(images)}, step=step)
