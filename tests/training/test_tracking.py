"""Trackers get figures, and the relevance samples as images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build
from vitreous.errors import VitreousError
from vitreous.training import Recipe, train
from vitreous.training.run import RunFolder
from vitreous.training.tracking import TAKERS, log_figures, log_samples, start_trackers


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


Kept = dict[str, list[np.ndarray]]


class Tracker:
    """One of the trackers that Accelerate knows, as far as it is given images; keeps them."""

    def __init__(self, name: str):
        self.name = name
        self.kept: Kept = {}
        self.figures: dict[str, float] = {}
        self.tracker = SimpleNamespace(
            log_image=self.log_image, log=self.log_values, info=SimpleNamespace(run_id="a run")
        )

    def log_images(self, values: dict[str, Any], step: int) -> None:
        assert step == 7 and self.name in {"aim", "clearml", "swanlab", "wandb"}
        for name, value in values.items():
            self.kept[name] = value if isinstance(value, list) else [value]

    def log_image(self, *given: Any, **named: Any) -> None:
        if self.name == "comet_ml":
            assert named["step"] == 7
            self.kept[named["name"]] = [given[0]]
        else:
            assert self.name == "dvclive" and not named
            self.kept[given[0]] = [given[1]]

    def log_values(self, values: dict[str, Any], step: int) -> None:
        assert step == 7 and self.name == "trackio"
        self.kept |= {name: [value[1]] for name, value in values.items() if value[0] == "shown"}

    def log(self, values: dict[str, float], step: int) -> None:
        assert step == 7
        self.figures |= values

    def modules(self) -> dict[str, Any]:
        """The packages that are asked beside the tracker itself."""

        def log_image(run: str, image: np.ndarray, key: str, step: int) -> None:
            assert run == "a run" and step == 7 and self.name == "mlflow"
            self.kept[key] = [image]

        client = SimpleNamespace(log_image=log_image)
        return {
            "mlflow": SimpleNamespace(MlflowClient=lambda: client),
            "trackio": SimpleNamespace(Image=lambda image: ("shown", image)),
        }


NUMBERED = ["samples/before/0", "samples/before/1"]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("wandb", ["samples/before"]),
        ("swanlab", ["samples/before"]),
        ("aim", NUMBERED),
        ("clearml", NUMBERED),
        ("comet_ml", NUMBERED),
        ("mlflow", NUMBERED),
        ("trackio", NUMBERED),
        ("dvclive", [f"{name}.png" for name in NUMBERED]),
    ],
)
def test_each_tracker_is_given_images_in_its_own_form(
    name: str, keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each expects was tried with the packages themselves: `real_trackers.py`."""
    folder = RunFolder(tmp_path)
    folder.samples.mkdir()
    rows = []
    for index in range(2):
        Image.new("RGB", (4, 2), (index, 0, 0)).save(folder.samples / f"{index}_before.png")
        rows.append({"index": index, "files": {"before": f"{index}_before.png"}})

    (folder.samples / "samples.json").write_text(json.dumps(rows))
    taker = Tracker(name)
    for module, fake in taker.modules().items():
        monkeypatch.setitem(sys.modules, module, fake)
    accelerator: Any = SimpleNamespace(trackers=[SimpleNamespace(name="other"), taker])
    log_samples(accelerator, folder, "before", 7)
    log_samples(accelerator, folder, "after", 7)
    assert list(taker.kept) == keys
    images = [image for group in taker.kept.values() for image in group]
    assert [image.shape for image in images] == [(2, 4, 3)] * 2
    assert [int(np.max(image)) for image in images] == [0, 1]


def test_every_tracker_of_accelerate_is_given_images() -> None:
    assert {str(name) for name in LOGGER_TYPE_TO_CLASS} == set(TAKERS)


@pytest.mark.parametrize("name", sorted(TAKERS))
def test_figures_have_names_that_the_tracker_can_keep(name: str) -> None:
    taker = Tracker(name)
    accelerator: Any = SimpleNamespace(trackers=[taker])
    log_figures(accelerator, "train", {"relevance": 1.0, "relevance/background": 2.0}, 7)
    assert sorted(taker.figures.values()) == [1.0, 2.0] and "train/relevance" in taker.figures
    if name == "dvclive":  # it keeps them as a tree
        assert not any(
            a != b and b.startswith(f"{a}/") for a in taker.figures for b in taker.figures
        )


def test_a_tracker_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    def refuse(name: str, settings: dict[str, Any]) -> None:
        raise OSError("no key was given\nsee the site of its makers")

    accelerator: Any = SimpleNamespace(init_trackers=refuse, log_with=["comet_ml"])
    with pytest.raises(
        VitreousError, match=r"^training.trackers \[comet_ml\] did not start: no key was given$"
    ):
        start_trackers(accelerator, {})
