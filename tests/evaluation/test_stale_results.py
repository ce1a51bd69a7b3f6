"""No stale result is used: whatever an answer depends on makes it measured anew."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import tiny_vit
from noise import COUNT, Noise, Squares, noise
from vitreous.attacks import PGD
from vitreous.brain.activations import Extraction, extract
from vitreous.brain.stimuli import Stimuli
from vitreous.cli import main
from vitreous.data.dataset import Dataset
from vitreous.evaluation.evaluators.accuracy import predictions
from vitreous.evaluation.evaluators.corruption import Corruption
from vitreous.evaluation.evaluators.explanation import ExplanationSettings, measure_explanations
from vitreous.evaluation.evaluators.maps import MapSettings, map_images
from vitreous.evaluation.evaluators.robustness import Robustness, robustness
from vitreous.evaluation.evaluators.rotation import Rotation
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.test_sets import Convention, TestSet
from vitreous.models import Classifier, load_model, save_model
from vitreous.results import Results

QUIET = StreamSettings(batch_size=4, progress=False)


def tiny(heads: int = 3) -> Classifier:
    model = tiny_vit(3, depth=1, num_heads=heads)
    model.net.register_buffer("scale", torch.ones(2), persistent=False)
    return model


@dataclasses.dataclass
class Trial:
    """What a command is given."""

    classifier: Classifier = dataclasses.field(default_factory=tiny)
    dataset: Dataset = dataclasses.field(default_factory=noise)
    streaming: StreamSettings = QUIET
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def evaluate(trial: Trial, folder: Path) -> Any:
    fields = {"accepted": ((0,), (1,), (2,)), **trial.settings}
    perturbation = fields.pop("perturbation", None)
    test_set = TestSet("noise", trial.dataset, trial.dataset.labels, **fields)
    how = {"streaming": trial.streaming, "perturbation": perturbation}
    return predictions(trial.classifier, test_set, folder, **how)


def attack(trial: Trial, folder: Path) -> Any:
    fields = {"attack": PGD(steps=2), "epsilons": (1 / 255,), **trial.settings}
    evaluator = Robustness("noise", **fields)
    return robustness(trial.classifier, trial.dataset, evaluator, folder, streaming=trial.streaming)


def explain(trial: Trial, folder: Path) -> Any:
    fields = {"methods": ("rollout",), "removal": False, **trial.settings}
    how = ExplanationSettings(**fields)
    return measure_explanations(
        trial.classifier, trial.dataset, "noise", folder, explaining=how, streaming=trial.streaming
    )


def activate(trial: Trial, folder: Path) -> Any:
    fields = dict(trial.settings)
    stimuli = Stimuli(trial.dataset, fields.pop("degrees_of_images", 8.0))
    how = Extraction(
        restart=trial.streaming.restart, check_content=trial.streaming.check_content, **fields
    )
    return extract(trial.classifier, stimuli, ["blocks.0"], folder, how)


def map_them(trial: Trial, folder: Path) -> Any:
    how = MapSettings(**{"methods": ("rollout",), **trial.settings})
    return map_images(trial.classifier, trial.dataset, how, folder, streaming=trial.streaming)


def stored(folder: Path) -> int:
    """Bytes of rows and activations: they grow by what is measured."""
    files = [*folder.rglob("rows-*.bin"), *folder.rglob("*.npy")]
    return sum(f.stat().st_size for f in files)


COMMANDS = {
    "evaluate": evaluate,
    "attack": attack,
    "explain": explain,
    "map": map_them,
    "activate": activate,
}


def heads(trial: Trial) -> None:
    other = tiny(heads=6)
    other.net.load_state_dict(trial.classifier.net.state_dict())
    trial.classifier = other


def pooling(trial: Trial) -> None:
    trial.classifier.net.global_pool = "avg"


def negated_head(trial: Trial) -> None:
    with torch.no_grad():
        trial.classifier.net.head.weight.neg_()


def one_buffer(trial: Trial) -> None:
    trial.classifier.net.scale[1] += 1


def mean(trial: Trial) -> None:
    trial.classifier.mean += 0.1


def std(trial: Trial) -> None:
    trial.classifier.std *= 2


def crop(trial: Trial) -> None:
    own = trial.classifier.preprocessing
    trial.classifier.preprocessing = dataclasses.replace(own, crop_ratio=0.5)


def data(**changes: Any) -> Callable[[Trial], None]:
    def change(trial: Trial) -> None:
        trial.dataset = noise(**changes)

    return change


def settings(**changes: Any) -> Callable[[Trial], None]:
    def change(trial: Trial) -> None:
        trial.settings = changes

    return change


def precision(trial: Trial) -> None:
    trial.streaming = dataclasses.replace(QUIET, precision="bfloat16")


def content(trial: Trial) -> None:
    trial.streaming = dataclasses.replace(QUIET, check_content=True)


SHARED = {
    "heads": heads,
    "pooling": pooling,
    "weights": negated_head,
    "buffer": one_buffer,
    "mean": mean,
    "std": std,
    "preprocessing": crop,
    "time of an image": data(images=Noise(times=(0, 0, 1, 0, 0, 0))),
    "names": data(images=Noise(prefix="picture")),
    "label": data(labels=np.array([0, 1, 2, 0, 1, 1])),
    "group": data(groups=np.zeros(COUNT, np.int64)),
    "mask": data(masks=Squares(time=1)),
    "another image": data(
        images=Noise(tuple(range(COUNT + 1)), (0,) * (COUNT + 1)),
        labels=np.arange(COUNT + 1) % 3,
        groups=np.arange(COUNT + 1) % 2,
    ),
    "content": content,
}
OWN = {
    "evaluate": {
        "precision": precision,
        "accepted": settings(accepted=((0, 1), (1,), (2,))),
        "convention": settings(conventions=(Convention("two", (0, 1)),)),
        "part": settings(settings={"severity": 2}),
        "border": settings(border=2),
        "rotation": settings(perturbation=Rotation(90)),
        "corruption": settings(perturbation=Corruption("gaussian_noise", 2)),
    },
    "attack": {
        "precision": precision,
        "attack": settings(attack=PGD(steps=3)),
        "norm": settings(attack=PGD(steps=2, norm="l2")),
        "epsilon": settings(epsilons=(1 / 255, 2 / 255)),
        "target": settings(target=1),
        "seed": settings(seed=1),
    },
    "explain": {
        "precision": precision,
        "methods": settings(methods=("rollout", "raw_attention")),
        "removal": settings(removal=True),
        "tolerance": settings(tolerance=3),
        "squash": settings(squash=False),
    },
    "map": {
        "precision": precision,
        "methods": settings(methods=("rollout", "raw_attention")),
        "target": settings(target="1"),
    },
    "activate": {
        "precision": settings(precision="bfloat16"),
        "field of view": settings(degrees=4.0),
        "degrees": settings(degrees_of_images=4.0),
        "storage": settings(storage="float16"),
    },
}
CASES = [
    pytest.param(name, mutate, id=f"{name}, {what}")
    for name in COMMANDS
    for what, mutate in {**SHARED, **OWN[name]}.items()
]


@pytest.mark.parametrize(("name", "mutate"), CASES)
def test_every_ingredient_of_an_answer_makes_it_measured_anew(
    name: str, mutate: Callable[[Trial], None], tmp_path: Path
) -> None:
    trial, command = Trial(), COMMANDS[name]
    command(trial, tmp_path)
    before = stored(tmp_path)
    command(Trial(), tmp_path)
    assert stored(tmp_path) == before > 0  # the same is not measured again
    mutate(trial)
    command(trial, tmp_path)
    assert stored(tmp_path) > before


@pytest.mark.parametrize("name", COMMANDS)
def test_restart_measures_again_and_keeps_one_of_each(name: str, tmp_path: Path) -> None:
    COMMANDS[name](Trial(), tmp_path)
    before = stored(tmp_path)
    (file, *_) = [*tmp_path.rglob("rows-*.bin"), *tmp_path.rglob("*.npy")]
    content = file.read_bytes()
    file.write_bytes(content[:-8] + b"\x07" * 8)
    restarted = dataclasses.replace(QUIET, restart=True)
    COMMANDS[name](Trial(streaming=restarted), tmp_path)
    assert stored(tmp_path) == before and file.read_bytes() == content


def write_shades(root: Path, shades: dict[str, int]) -> Path:
    for name, shade in shades.items():
        for number in range(2):
            file = root / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 60, (32, 32, 3)) + shade
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return root


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model that says whether an image is dark (a) or bright (b)."""
    torch.manual_seed(0)
    model = load_model("resnet10t", pretrained=False, num_classes=2, class_names=["a", "b"])
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


def accuracy(out: Path, metric: str) -> float:
    (record,) = [r for r in Results.read(out).records if r.metric == metric][-1:]
    return record.value


def run(command: str, model: Path, data: Path, out: Path, *more: str) -> float:
    options = ["--device", "cpu", "--workers", "0", "--quiet", "--out", str(out)]
    if command == "evaluate":
        options += ["--samples", "0"]
    else:
        options += ["--attack", "fgsm", "--epsilon", "1/255"]
    assert main([command, str(model), "--data", str(data), *options, *more]) == 0
    results = Results.read(out)
    metric = {"evaluate": {"metric": "top1"}, "attack": {"epsilon": 0.0}}[command]
    newest = [r for r in results.find(**metric) if r.source == str(data)]
    return newest[0].value


@pytest.mark.parametrize("command", ["evaluate", "attack"])
def test_another_set_of_the_same_name_and_size_is_measured_for_itself(
    command: str, saved: Path, tmp_path: Path
) -> None:
    first = write_shades(tmp_path / "s1" / "val", {"a": 0, "b": 180})
    second = write_shades(tmp_path / "s2" / "val", {"a": 180, "b": 0})
    run(command, saved, first, tmp_path / "out")
    value = run(command, saved, second, tmp_path / "out")
    assert value == run(command, saved, second, tmp_path / "fresh")


@pytest.mark.parametrize("command", ["evaluate", "attack"])
def test_an_image_that_was_replaced_after_the_first_run_counts_anew(
    command: str, saved: Path, tmp_path: Path
) -> None:
    data = write_shades(tmp_path / "val", {"a": 0, "b": 180})
    before = run(command, saved, data, tmp_path / "out")
    labels = {name: (data / name / "0.png").read_bytes() for name in "ab"}
    for name, other in (("a", "b"), ("b", "a")):
        for number in range(2):
            (data / name / f"{number}.png").write_bytes(labels[other])
    after = run(command, saved, data, tmp_path / "out")
    assert after == run(command, saved, data, tmp_path / "fresh") == 1 - before


@pytest.mark.parametrize("command", ["evaluate", "attack"])
def test_the_command_restarts_and_checks_content(command: str, saved: Path, tmp_path: Path) -> None:
    data, out = write_shades(tmp_path / "val", {"a": 0, "b": 0}), tmp_path / "out"
    run(command, saved, data, out, "--check-content")
    before = stored(out)
    file = data / "a" / "0.png"
    about = file.stat()
    content = bytearray(Image.open(file).tobytes())
    content[0] ^= 1
    swapped = Image.frombytes("RGB", (32, 32), bytes(content))
    swapped.save(file)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    run(command, saved, data, out, "--check-content")
    assert stored(out) == before * 5 // 4  # one of four was measured again
    run(command, saved, data, out, "--check-content", "--restart")
    assert stored(out) == before
