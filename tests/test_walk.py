"""One batch goes through the functions that docs/design.md lists, in that order."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from PIL import Image

import vitreous
from vitreous.cli import read_command
from vitreous.models import load_model, save_model

ROOT = Path(vitreous.__file__).parent
DESIGN = Path(__file__).parents[1] / "docs" / "design.md"
SMALL = "{patch_size: 6, embed_dim: 24, depth: 2, num_heads: 2}"


def listed(command: str) -> list[str]:
    """The functions under a heading of the design."""
    text = DESIGN.read_text(encoding="utf-8")
    part = text.split(f"### From `vitreous {command}")[1].split("\n#")[0]
    return re.findall(r"^\| `([\w.]+)` \|", part, re.M)


def called(run: Callable[[], object]) -> list[str]:
    """Every function of the package that was entered, in order."""
    names: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and str(file).startswith(str(ROOT)):
            place = file.relative_to(ROOT).with_suffix("").parts
            names.append(".".join([*place, frame.f_code.co_qualname]))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return names


def missing_in_order(wanted: list[str], names: list[str]) -> list[str]:
    """What is not called after what stands before it."""
    rest = iter(names)
    return [name for name in wanted if name not in rest]


def small_options() -> list[str]:
    model = ["--model.name", "vit_tiny_patch16_224", "--model.pretrained", "false"]
    return [*model, "--model.image_size", "48", "--model.options", SMALL]


def test_training_goes_the_way_that_is_written_down(tmp_path: Path) -> None:
    data = ["--data.stream.train", "6", "--data.masked.train", "6", "--data.masked.validation", "2"]
    training = ["--training.epochs", "1", "--training.batch_size", "6", "--training.samples", "0"]
    place = ["--out", str(tmp_path / "run"), "--quiet"]
    command = read_command("train", ["demo/joint", *small_options(), *data, *training, *place])
    names = called(command.run)
    wanted = listed("train")
    assert len(wanted) > 15
    assert missing_in_order(wanted, names[names.index("training.engine.Trainer.run_epoch") :]) == []


def test_evaluation_goes_the_way_that_is_written_down(tmp_path: Path) -> None:
    options = {"patch_size": 6, "embed_dim": 24, "depth": 2, "num_heads": 2}
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, image_size=48, num_classes=2, **options
    )
    model.class_names = ["a", "b"]
    folder = save_model(model, tmp_path / "model")
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(tmp_path / f"images/{name}/0.png")
    place = ["--data", str(tmp_path / "images"), "--out", str(tmp_path / "out"), "--quiet"]
    alone = ["--device", "cpu", "--workers", "0", "--samples", "0"]
    command = read_command("evaluate", [str(folder), *place, *alone])
    wanted = listed("evaluate")
    assert len(wanted) > 10
    assert missing_in_order(wanted, called(command.run)) == []


@pytest.mark.parametrize("wanted", [["b", "a"], ["a", "c"]])
def test_another_order_is_seen(wanted: list[str]) -> None:
    assert missing_in_order(wanted, ["a", "b"])
