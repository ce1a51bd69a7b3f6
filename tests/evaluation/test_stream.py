"""The measuring loop: nothing stale is used, nothing is measured twice, whatever is interrupted."""

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

from helpers import as_processes
from vitreous.attacks import PGD
from vitreous.brain.activations import Extraction, extract
from vitreous.brain.stimuli import Stimuli
from vitreous.cli import main
from vitreous.data.dataset import Dataset
from vitreous.errors import ImageError
from vitreous.evaluation.evaluators.accuracy import predictions
from vitreous.evaluation.evaluators.corruption import Corruption
from vitreous.evaluation.evaluators.explanation import ExplanationSettings, measure_explanations
from vitreous.evaluation.evaluators.robustness import Robustness, robustness
from vitreous.evaluation.evaluators.rotation import Rotation
from vitreous.evaluation.loading import EvaluationBatch, View
from vitreous.evaluation.rows import RowStore, item_type
from vitreous.evaluation.stream import Measured, StreamSettings, stream
from vitreous.evaluation.test_sets import Convention, TestSet
from vitreous.models import Classifier, Preprocessing, load_model, save_model
from vitreous.processes import ALONE, Processes
from vitreous.results import Record, Results

QUIET = StreamSettings(batch_size=4, progress=False)
COUNT = 6


@dataclasses.dataclass(frozen=True)
class Noise:
    """Images of noise in memory, with times of change that tests can set."""

    seeds: tuple[int, ...] = tuple(range(COUNT))
    times: tuple[int, ...] = (0,) * COUNT
    broken: tuple[int, ...] = ()
    prefix: str = "image"

    def __len__(self) -> int:
        return len(self.seeds)

    def name(self, index: int) -> str:
        return f"{self.prefix} {index}"

    def open(self, index: int) -> Image.Image:
        if index in self.broken:
            raise ImageError(f"{self.name(index)} is broken")
        random = np.random.default_rng(self.seeds[index])
        return Image.fromarray(random.integers(0, 255, (32, 32, 3)).astype(np.uint8))

    def stamp(self, index: int) -> tuple[int, ...]:
        return 3072, self.times[index]

    def content(self, index: int) -> bytes:
        return np.asarray(self.open(index)).tobytes()


@dataclasses.dataclass(frozen=True)
class Squares:
    """A square in each image."""

    time: int = 0

    def has(self, index: int) -> bool:
        return True

    def open(self, index: int) -> torch.Tensor:
        mask = torch.zeros(1, 32, 32)
        mask[:, 8:20, 4 + index : 16 + index] = 1
        return mask

    def stamp(self, index: int) -> tuple[int, ...]:
        return 1, self.time

    def content(self, index: int) -> bytes:
        return bytes([self.time])


def noise(**changes: Any) -> Dataset:
    values = {
        "images": Noise(),
        "labels": np.arange(COUNT) % 3,
        "class_names": ("a", "b", "c"),
        "masks": Squares(),
        "groups": np.arange(COUNT) % 2,
        "group_names": ("land", "water"),
    }
    return Dataset(**{**values, **changes})


def tiny(heads: int = 3) -> Classifier:
    torch.manual_seed(0)
    model = load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=3,
        image_size=32,
        patch_size=8,
        embed_dim=24,
        depth=1,
        num_heads=heads,
    )
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


COMMANDS = {"evaluate": evaluate, "attack": attack, "explain": explain, "activate": activate}


def stored(folder: Path) -> int:
    """Bytes of rows and activations: they grow by what is measured."""
    files = [*folder.rglob("rows-*.bin"), *folder.rglob("*.npy")]
    return sum(f.stat().st_size for f in files)


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
    "activate": {
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


class Mean:
    """The mean of each image; counts what it is shown."""

    name = "mean"

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.limit = 10**9

    def settings(self) -> dict[str, Any]:
        return {}

    def row_type(self) -> np.dtype:
        return item_type([("mean", "f4")])

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        assert not classifier.training
        if len(self.seen) >= self.limit:
            raise KeyboardInterrupt
        self.seen += batch.indices.tolist()
        rows = self.unread(len(batch))
        rows["mean"] = batch.images.mean((1, 2, 3))
        return rows

    def unread(self, count: int) -> np.ndarray:
        return np.zeros(count, self.row_type())

    def records(self, rows: np.ndarray) -> list[Record]:
        return []


CLASSIFIER = Classifier(torch.nn.Identity(), preprocessing=Preprocessing((32, 32), 1.0)).eval()
TWO = dataclasses.replace(QUIET, batch_size=2)


def measure_means(
    folder: Path,
    dataset: Dataset | None = None,
    evaluator: Mean | None = None,
    streaming: StreamSettings = TWO,
    processes: Processes = ALONE,
) -> Measured:
    return stream(
        CLASSIFIER,
        dataset or noise(),
        evaluator or Mean(),
        folder,
        streaming=streaming,
        processes=processes,
    )


def test_killed_and_resumed_equals_uninterrupted_also_after_half_a_row(tmp_path: Path) -> None:
    whole = measure_means(tmp_path / "a")
    killed = Mean()
    killed.limit = 4
    with pytest.raises(KeyboardInterrupt):
        measure_means(tmp_path / "b", evaluator=killed)
    (file,) = (tmp_path / "b").rglob("rows-0.bin")
    with file.open("ab") as opened:
        opened.write(b"\x07\x00\x01")
    rest = Mean()
    again = measure_means(tmp_path / "b", evaluator=rest)
    assert rest.seen == [4, 5] and np.array_equal(again.rows, whole.rows)


def test_two_processes_are_one(tmp_path: Path) -> None:
    whole = measure_means(tmp_path / "a").rows
    evaluators = [Mean(), Mean()]

    def rank(processes: Processes) -> np.ndarray:
        evaluator = evaluators[processes.rank]
        return measure_means(tmp_path / "b", evaluator=evaluator, processes=processes).rows

    assert all(np.array_equal(rows, whole) for rows in as_processes(2, rank))
    assert sorted(evaluators[0].seen + evaluators[1].seen) == list(range(COUNT))
    assert evaluators[0].seen and evaluators[1].seen


def test_only_the_image_that_changed_is_measured_again(tmp_path: Path) -> None:
    measure_means(tmp_path)
    evaluator = Mean()
    changed = noise(images=Noise((0, 1, 99, 3, 4, 5), (0, 0, 1, 0, 0, 0)))
    rows = measure_means(tmp_path, changed, evaluator).rows
    assert evaluator.seen == [2]
    assert np.array_equal(rows["mean"], measure_means(tmp_path / "fresh", changed).rows["mean"])


def test_rows_follow_their_images_to_other_numbers(tmp_path: Path) -> None:
    measure_means(tmp_path)
    evaluator, moved = Mean(), noise().select([5, 0, 3])
    rows = measure_means(tmp_path, moved, evaluator).rows
    assert evaluator.seen == [] and rows["index"].tolist() == [0, 1, 2]
    assert np.array_equal(rows["mean"], measure_means(tmp_path / "fresh", moved).rows["mean"])


def test_a_larger_limit_only_adds_rows(tmp_path: Path) -> None:
    few, all_of_them = Mean(), Mean()
    measure_means(tmp_path, evaluator=few, streaming=dataclasses.replace(TWO, limit=3))
    measured = measure_means(tmp_path, evaluator=all_of_them)
    assert len(measured.rows) == COUNT and not set(few.seen) & set(all_of_them.seen)


def test_unreadable_images_are_tried_each_time_and_named(tmp_path: Path) -> None:
    broken = noise(images=Noise(broken=(1, 4)))
    for _ in range(2):
        measured = measure_means(tmp_path, broken)
        assert measured.reasons == {1: "image 1 is broken", 4: "image 4 is broken"}
        assert measured.rows["status"].tolist() == [0, 1, 0, 0, 1, 0]
    evaluator = Mean()
    repaired = measure_means(tmp_path, noise(images=Noise(broken=(4,))), evaluator)
    assert evaluator.seen == [1] and list(repaired.reasons) == [4]
    assert np.array_equal(measure_means(tmp_path).rows, measure_means(tmp_path / "fresh").rows)


def test_the_content_decides_where_it_is_asked_for(tmp_path: Path) -> None:
    same_time = noise(images=Noise((0, 1, 99, 3, 4, 5)))
    by_content = dataclasses.replace(TWO, check_content=True)
    measure_means(tmp_path, streaming=by_content)
    evaluator = Mean()
    measure_means(tmp_path, same_time, evaluator, by_content)
    assert evaluator.seen == [2]
    touched = Mean()
    later = noise(images=Noise(times=(9,) * COUNT))
    measure_means(tmp_path, later, touched, by_content)
    assert touched.seen == []


def test_a_reason_that_was_cut_short_does_not_hide_the_next(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "rows", {}, item_type([]))
    store.append(np.zeros(1, store.kind), {1: "first"})
    with (tmp_path / "rows" / "unreadable-0.jsonl").open("ab") as opened:
        opened.write(b'[2, "cut')
    store.append(np.zeros(1, store.kind), {3: "third"})
    assert store.reasons() == {1: "first", 3: "third"}


def test_what_a_view_shows_is_part_of_the_key(tmp_path: Path) -> None:
    places = {
        stream(CLASSIFIER, noise(), Mean(), tmp_path, view=view, streaming=TWO).folder
        for view in (
            View(CLASSIFIER.preprocessing),
            View(CLASSIFIER.preprocessing, "squash"),
            View(CLASSIFIER.preprocessing, masks=True),
            View(CLASSIFIER.preprocessing, border=1),
        )
    }
    assert len(places) == 4


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
