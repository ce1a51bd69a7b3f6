"""Measuring in two real processes is measuring in one: the same records, each image once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers import write_squares
from processes.launch import Launch, launch_all
from vitreous.cli import main
from vitreous.models import load_model, save_model
from vitreous.results import Results

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
COMMON = ("--workers", "0", "--batch-size", "2", "--device", "cpu")
DATA = {"evaluate": "broken", "attack": "images"}
OPTIONS = {
    "evaluate": ("--rotation", "90", "--noise", "3", *COMMON),
    "attack": ("--attack", "pgd", "--epsilon", "4/255", "--steps", "3", "--quiet", *COMMON[2:]),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of two classes, one file that is none, and a tiny model."""
    root = write_squares(tmp_path_factory.mktemp("measure"), 7)
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=2, image_size=32, **TINY
    )
    model.class_names = ["c0", "c1"]
    save_model(model, root / "model")
    (root / "broken").mkdir()
    for folder in ("c0", "c1"):
        shutil.copytree(root / "images" / folder, root / "broken" / folder)
    (root / "broken/c0/broken.png").write_bytes(b"not an image")
    return root


def command(root: Path, name: str, out: str) -> list[str]:
    start = [name, str(root / "model"), "--data", str(root / DATA[name])]
    return [*start, *OPTIONS[name], "--out", str(root / out)]


def records_equal(one: Results, two: Results) -> None:
    assert len(two.records) == len(one.records) > 0
    for found, expected in zip(two.records, one.records):
        # Batches of other images round otherwise: only what counts images is exact.
        tolerance = 0.0 if expected.metric in {"top1", "top5", "robust_accuracy"} else 1e-6
        assert found.value == pytest.approx(expected.value, abs=tolerance)
        assert (found.metric, found.n) == (expected.metric, expected.n)
        assert _comparable(found.settings) == _comparable(expected.settings)


def _shown(entry: dict) -> list[tuple[str, str, str]]:
    """Which images are shown, in which order, with which map."""
    return [
        (kind, sample["file"], sample["relevance"])
        for kind in ("best", "worst")
        for sample in entry[kind]
    ]


def _comparable(settings: dict) -> dict:
    return {k: v for k, v in settings.items() if not isinstance(v, float)}


def shared_work(result: Launch, out: Path) -> None:
    """Both processes joined; the first wrote the results, and no file was written by both."""
    assert result.code == 0, result.messages[-2000:]
    assert result.seen == [2, 2]
    first, second = result.written_in(out)
    assert any(path.name == "results.json" for path in first)
    # Each keeps its own rows; the first writes their header.
    assert {path.name for path in second if "samples" not in path.parts} <= {"rows-1.bin"}
    assert any(path.name == "header.json" for path in first)
    assert not first & second
    assert any(path.name == "rows-1.bin" for path in second)


@pytest.fixture(scope="module")
def launched(root: Path) -> dict[str, Launch]:
    """Both commands in one launch of two processes."""
    commands = [command(root, name, f"{name}_two") for name in OPTIONS]
    return dict(zip(OPTIONS, launch_all(root / "notes", commands)))


@pytest.mark.parametrize("name", OPTIONS)
def test_two_processes_give_the_records_of_one(
    name: str, root: Path, launched: dict[str, Launch]
) -> None:
    result = launched[name]
    assert main(command(root, name, f"{name}_one")) == 0
    shared_work(result, root / f"{name}_two")
    one, two = (Results.read(root / f"{name}_{n}") for n in ("one", "two"))
    records_equal(one, two)
    if name == "evaluate":
        assert {r.n for r in one.records if r.metric == "top1"} == {8}
        told = [repr(r.extra["evaluation"][DATA[name]]["unreadable"]) for r in (one, two)]
        assert told[0] == told[1] and "broken.png" in told[0]
        shown = [_shown(r.extra["evaluation"][DATA[name]]) for r in (one, two)]
        assert shown[0] == shown[1] and len(shown[0]) > 2
        assert any("samples" in path.parts for path in result.written_in(root / "evaluate_two")[1])
        assert all((root / "evaluate_two" / path).is_file() for _, _, path in shown[1])
