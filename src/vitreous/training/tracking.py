"""What the trackers of a run are given: its figures, and the relevance samples as images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from vitreous.errors import VitreousError
from vitreous.io import read_json
from vitreous.training.run import RunFolder

Tracker = Any
"""One of Accelerate's; what it wraps is the library of its makers."""
Images = Sequence[np.ndarray]
"""Each (height, width, 3), uint8."""


def start_trackers(accelerator: Accelerator, settings: Mapping[str, Any]) -> None:
    """Start the trackers of a run, which keep its settings.

    Raises:
        VitreousError: If one cannot be started (no key, no network, no place to write to).
    """
    try:
        accelerator.init_trackers("logs", dict(settings))
    except Exception as error:  # each raises what its makers like
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        names = ", ".join(str(tracker) for tracker in accelerator.log_with)
        raise VitreousError(f"training.trackers [{names}] did not start: {line}") from error


def log_figures(
    accelerator: Accelerator, split: str, figures: Mapping[str, float], step: int
) -> None:
    """Give figures to each tracker, as `SPLIT/NAME`.

    DVCLive keeps names as a tree, where what has parts (`relevance/background`) has no value of
    its own: there the parts are `SPLIT/relevance_background`.
    """
    for tracker in accelerator.trackers:
        plain = tracker.name == "dvclive"
        named = {f"{split}/{k.replace('/', '_') if plain else k}": v for k, v in figures.items()}
        tracker.log(named, step=step)


def log_samples(accelerator: Accelerator, folder: RunFolder, when: str, step: int) -> None:
    """Show the samples drawn `before` or `after` the training in each tracker that takes images.

    Args:
        accelerator: With its trackers.
        folder: Of the run; its samples are read.
        when: Which of them.
        step: Optimiser steps done.
    """
    listing = folder.samples / "samples.json"
    takers = [tracker for tracker in accelerator.trackers if tracker.name in TAKERS]
    if not takers or not listing.is_file():
        return
    files = [row["files"].get(when) for row in read_json(listing)]
    images = [_pixels(folder, file) for file in files if file]
    for tracker in takers if images else ():
        TAKERS[tracker.name](tracker, f"samples/{when}", images, step)


def _pixels(folder: RunFolder, file: str) -> np.ndarray:
    with Image.open(folder.samples / file) as image:
        return np.array(image.convert("RGB"))


def _batch(tracker: Tracker, name: str, images: Images, step: int) -> None:
    tracker.log_images({name: np.stack(images)}, step=step, dataformats="NHWC")


def _list(tracker: Tracker, name: str, images: Images, step: int) -> None:
    tracker.log_images({name: list(images)}, step=step)


def _named(tracker: Tracker, name: str, images: Images, step: int) -> None:
    tracker.log_images(numbered(name, images), step=step)


def _comet(tracker: Tracker, name: str, images: Images, step: int) -> None:
    for key, image in numbered(name, images).items():
        tracker.tracker.log_image(image, name=key, step=step)


def _dvclive(tracker: Tracker, name: str, images: Images, step: int) -> None:
    for key, image in numbered(name, images).items():
        tracker.tracker.log_image(f"{key}.png", image)  # it knows the step


def _mlflow(tracker: Tracker, name: str, images: Images, step: int) -> None:
    client, run = import_module("mlflow").MlflowClient(), tracker.tracker.info.run_id
    for key, image in numbered(name, images).items():
        client.log_image(run, image, key=key, step=step)


def _trackio(tracker: Tracker, name: str, images: Images, step: int) -> None:
    picture = import_module("trackio").Image
    shown = {key: picture(image) for key, image in numbered(name, images).items()}
    tracker.tracker.log(shown, step=step)


def numbered(name: str, images: Images) -> dict[str, np.ndarray]:
    """A name for each image: `NAME/0` and so on."""
    return {f"{name}/{index}": image for index, image in enumerate(images)}


TAKERS: dict[str, Callable[[Tracker, str, Images, int], None]] = {
    "aim": _named,
    "clearml": _named,
    "comet_ml": _comet,
    "dvclive": _dvclive,
    "mlflow": _mlflow,
    "swanlab": _list,
    "tensorboard": _batch,
    "trackio": _trackio,
    "wandb": _list,
}
"""How each tracker that Accelerate knows is given images; tracker, name, images, step."""
