"""Train, evaluate, attack, explain, mask and report in a folder: what a system may refuse of it.

Run as a program it does so with workers that are spawned (Windows, macOS), and with each reading
or writing of text that leaves its encoding to the system as an error.
"""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from pathlib import Path

import torch

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.config import to_yaml

WORDS = "Bäume, 木 und Größe"


def steps(root: Path, workers: int) -> list[list[str]]:
    """The commands, for a set that lies in `root`."""
    run, data, masks = (str(root / name) for name in ("run", "images", "masks"))
    image = str(root / "images" / "class_0" / "0.png")
    return [
        ["train", str(root / "recipe.yaml"), "--out", run, f"--training.workers={workers}"],
        [
            "evaluate",
            run,
            "--data",
            data,
            "--masks",
            masks,
            "--workers",
            f"{workers}",
        ],
        ["attack", run, "--data", data, "--steps", "2", "--workers", f"{workers}"],
        ["explain", image, "--model", run, "--method", "all", "--out", str(root / "explained")],
        ["mask", data, "--method", "relevance", "--model", run, "--out", str(root / "made")],
        ["report", run, "--out", str(root / "card.html")],
        ["report", run, "--format", "markdown", "--out", str(root / "card.md")],
    ]


def more_measures(root: Path) -> list[list[str]]:
    """What else is computed on the device."""
    run, data = str(root / "run"), ["--data", str(root / "images"), "--workers", "0"]
    attack = ["--attack", "sequence", "--members", "apgd_ce", "square", "--queries", "5"]
    return [
        ["evaluate", run, *data, "--rotation", "45", "--corruptions", "snow"],
        ["attack", run, *data, *attack],
    ]


def prepare(root: Path) -> Path:
    """A set of six images with masks, and a recipe, in a folder with an awkward name."""
    place = root / WORDS
    write_masked_set(place, classes=2, per_class=3)
    recipe = tiny_recipe(place)
    recipe["training"] |= {"epochs": 1, "trackers": ["tensorboard"]}
    recipe["robust_validation"] = {"images": 2, "steps": 2}
    (place / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    return place


def do_all(commands: list[list[str]]) -> None:
    """Run every command; each must say that it went well."""
    for arguments in commands:
        assert main(arguments) == 0, arguments


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn", force=True)
    warnings.filterwarnings("error", category=EncodingWarning, module=r"vitreous\b")
    torch.set_num_threads(1)
    do_all(steps(prepare(Path(sys.argv[1])), workers=1))
