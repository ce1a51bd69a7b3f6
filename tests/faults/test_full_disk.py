"""A disk that is really full at each write: one line, the old file, and no half of a new one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from faults.disks import LimitedFiles, SmallDisk, mounted
from helpers import TINY_MODEL, tiny_recipe, write_masked_set
from vitreous.commands.explanation_files import write_maps
from vitreous.config import build
from vitreous.disk import writing
from vitreous.errors import InterruptedRun, VitreousError
from vitreous.io import append_text, atomic_path, write_json
from vitreous.masks import MaskFolder, write_masks
from vitreous.masks.folder import write_mask
from vitreous.masks.manifest import ManifestRow
from vitreous.masks.methods.alpha import Alpha
from vitreous.models import load_model, save_model
from vitreous.results import Record, Results
from vitreous.training import Recipe, train
from vitreous.training.engine import Trainer
from vitreous.training.run import RunFolder


@pytest.fixture(params=["full", "limited"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk; files of limited size where none can be mounted, and beside it."""
    if request.param == "limited":
        (tmp_path / "limited").mkdir()
        yield LimitedFiles(tmp_path / "limited")
        return
    with mounted(tmp_path / "small", "size=8m") as done:
        yield SmallDisk(tmp_path / "small") if done else LimitedFiles(tmp_path / "small")


def save_state(folder: Path, version: int) -> None:
    RunFolder(folder).save_state({"weights": torch.full((300_000,), float(version))})


def save_by_path(folder: Path, version: int) -> None:
    with atomic_path(folder / "x.pt") as temporary:
        torch.save({"weights": torch.full((300_000,), float(version))}, temporary)


def save_weights(folder: Path, version: int) -> None:
    options = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}
    torch.manual_seed(version)
    model = load_model(TINY_MODEL["name"], pretrained=False, image_size=32, **options)
    save_model(model, folder)


def log(folder: Path, version: int) -> None:
    RunFolder(folder).log({"step": version, "text": "x" * 5000})


def mask(folder: Path, version: int) -> None:
    write_mask(np.full((40, 40), version == 1), folder / "x.png")


def manifest(folder: Path, version: int) -> None:
    MaskFolder(folder).append([ManifestRow(f"{version}", "x" * 9000, "", "", "alpha", kept=False)])


def results(folder: Path, version: int) -> None:
    made = Results("x")
    made.add([Record("clean", "photos", "top1", version / 10)])
    made.write(folder / "results.json")


def maps(folder: Path, version: int) -> None:
    made = np.random.default_rng(version).random(3000)
    explained = SimpleNamespace(maps=lambda entry: {entry: made})
    write_maps(explained, ["x", "y"], folder / "maps.npz")


def table(folder: Path, version: int) -> None:
    write_json(folder / "x.json", {"version": version, "more": "x" * 9000})


WRITERS: list[Callable[[Path, int], None]] = [
    save_state,
    save_by_path,
    save_weights,
    log,
    mask,
    manifest,
    results,
    maps,
    table,
]


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".filler")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_write_keeps_what_was_there_and_says_what_to_do(disk, write):
    folder = disk.path / "out"
    write(folder if write in (save_weights, save_state, save_by_path) else _made(folder), 1)
    before = contents(folder)
    with disk.full():
        with pytest.raises(VitreousError) as caught:
            write(folder, 2)
        assert contents(folder) == before
    assert all(words in str(caught.value) for words in disk.words)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    write(folder, 2)
    assert contents(folder) != before


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class Stopping(io.RawIOBase):
    """A file that Ctrl-C comes to while it is written."""

    writes = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.writes += 1
        if self.writes == 3:
            raise InterruptedRun("stopped at once")
        return len(content)


def test_a_stop_while_a_state_is_written_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(InterruptedRun, match="stopped at once"), writing(tmp_path / "x.pt"):
        torch.save({"weights": torch.zeros(100_000)}, Stopping())


def test_a_line_that_half_fits_is_taken_back(tmp_path):
    with mounted(tmp_path / "small", "size=64k") as done:
        if not done:
            pytest.skip("needs the right to mount a small disk")
        file = tmp_path / "small" / "metrics.jsonl"
        append_text(file, "first\n")
        with pytest.raises(VitreousError, match="No space left"):
            append_text(file, "x" * 100_000 + "\n")
        assert file.read_text() == "first\n"
        append_text(file, "second\n")
        assert file.read_text() == "first\nsecond\n"


@pytest.mark.parametrize("step", [0, 4])
def test_a_training_that_found_the_disk_full_goes_on_as_if_it_had_not(
    disk, tmp_path, monkeypatch, step
):
    write_masked_set(tmp_path / "set")
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 4, "trackers": [], "samples": 0}
    recipe = build(Recipe, tiny_recipe(tmp_path / "set", training=settings))
    train(recipe, tmp_path / "whole", quiet=True)
    original = Trainer.step

    def filling(self: Trainer, *arguments: Any) -> dict[str, float]:
        if self.progress.step == step:
            disk.fill()
        return original(self, *arguments)

    out = disk.path / "run"
    with monkeypatch.context() as patch, pytest.raises(VitreousError) as caught:
        patch.setattr(Trainer, "step", filling)
        try:
            train(recipe, out, quiet=True)
        finally:
            disk.free()
    assert disk.words[0] in str(caught.value)
    train(recipe, out, quiet=True)
    whole, again = (
        safetensors.torch.load_file(folder / "model.safetensors")
        for folder in (tmp_path / "whole", out)
    )
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    rows = [(folder / "metrics.jsonl").read_text() for folder in (tmp_path / "whole", out)]
    assert rows[0] == rows[1]


def test_masks_that_found_the_disk_full_go_on_as_if_they_had_not(disk, tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    for index in range(6):
        Image.new("RGBA", (40, 40), (9, 9, 9, 255)).save(images / f"{index}.png")
    find = Alpha.find

    def filling(self: Alpha, items: Any) -> Any:
        if any(item.name == "4" for item in items):
            disk.fill()
        return find(self, items)

    out = disk.path / "masks"
    with monkeypatch.context() as patch, pytest.raises(VitreousError, match=disk.words[0]):
        patch.setattr(Alpha, "find", filling)
        try:
            write_masks(Alpha(), images, out, batch_size=2)
        finally:
            disk.free()
    write_masks(Alpha(), images, out, batch_size=2)
    write_masks(Alpha(), images, tmp_path / "whole", batch_size=2)
    lines = [
        [json.loads(line)["name"] for line in (folder / "manifest.jsonl").read_text().splitlines()]
        for folder in (out, tmp_path / "whole")
    ]
    assert lines[0] == lines[1]
    assert contents(out).keys() == contents(tmp_path / "whole").keys()
