"""Each command says at its end what it wrote, and how long it took."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from helpers import tiny_recipe, tiny_vit, write_masked_set, write_squares
from vitreous.cli import main
from vitreous.models import save_model

COMMANDS = {
    "explain": "explain {image} --model {model} --device cpu --out {out}",
    "mask": "mask {images} --method relevance --model {model} --minimum-pixels 0 --out {out}",
    "train": "train {recipe} --quiet --out {out}",
    "sweep": "sweep {recipe} --search training.seed=int:0:1 --trials 2 --quiet --out {out}",
    "evaluate": "evaluate {model} --data {images} --device cpu --workers 0 --out {out}",
    "attack": "attack {model} --data {images} --attack pgd --steps 1 --device cpu --out {out}",
    "brain": "brain similarity {model} --stimuli {images} --rdms {rdm} --layers blocks.1 "
    "--device cpu --out {out}/results.json --cache {out}",
    "export": "export {model} --out {out}",
    "report": "report {model} --out {out}/card.html",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands are given."""
    root = tmp_path_factory.mktemp("ends")
    write_masked_set(root / "set", per_class=3)
    training = {"epochs": 1, "batch_size": 6, "trackers": [], "samples": 1}
    recipe = root / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(root / "set", training=training)))
    images = write_squares(root / "squares", 4) / "images"
    save_model(tiny_vit(2, class_names=["c0", "c1"]), root / "model")
    matrix = np.random.default_rng(0).random((4, 4))
    np.save(root / "rdm.npy", np.abs(matrix - matrix.T))
    given = ["--data", str(images), "--device", "cpu", "--workers", "0"]
    model = str(root / "model")
    assert main(["evaluate", model, *given, "--out", model, "--overwrite"]) == 0
    return {
        "image": str(next(images.rglob("*.png"))),
        "images": str(images),
        "model": str(root / "model"),
        "recipe": str(recipe),
        "rdm": str(root / "rdm.npy"),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_what_was_written_and_how_long_it_took_are_told(
    name: str,
    places: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    line = COMMANDS[name].format(**places, out=tmp_path / "out").split()
    assert main(line) == 0
    told = capsys.readouterr()
    named = [
        Path(path) for path in re.findall(rf"{re.escape(str(tmp_path))}[^\s,:;)\"]*", told.out)
    ]
    assert named and all(path.exists() for path in named)
    assert re.fullmatch(r"done in [0-9.]+ s", told.err.strip().splitlines()[-1])
