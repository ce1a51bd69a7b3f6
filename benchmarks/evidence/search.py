"""Every arm searched by `vitreous sweep` with one budget.

    python benchmarks/evidence/search.py --data evidence/data --start MODEL --out evidence/searched
    python benchmarks/evidence/search.py --data evidence/data --start MODEL \
        --out evidence/from_16 --images train_16 --epochs 2

The images are three of each class of one half (`train_3`), or 16 of each class. A trial is judged
by 200 images of the first half of the classes with the object on the background of another class;
learning rate, weight of the arm's term and epoch are all chosen by them. The best settings are then
trained with each seed and measured on the classes of the other half, as `run.py` measures. What is
finished is not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from run import EPOCHS, measure, recipe, vitreous

from vitreous.data.readers import read_dataset
from vitreous.io import read_json, write_csv, write_json

RATE = "optimizer.lr=log:5e-7:3e-5"
ARMS = {
    "plain": (),
    "guidance": ("objectives.relevance.weight=log:0.1:10",),
    "guidance_own_prediction": ("objectives.relevance.weight=log:0.1:10",),
    "swap": ("objectives.background_swap.weight=log:0.1:10",),
    "guidance_and_swap": (
        "objectives.relevance.weight=log:0.1:10",
        "objectives.background_swap.weight=log:0.1:10",
    ),
    "gradmask": ("objectives.gradmask.weight=log:1:1000",),
    "rrr_0.008": ("objectives.rrr.weight=log:0.0001:0.1",),
}
JUDGES = 200


def write_judges(data: Path, out: Path) -> Path:
    """The list of images by which trials are judged: of the first half of the classes."""
    shown = read_dataset(data / "tests" / "random_class")
    early = np.flatnonzero(shown.labels < len(shown.class_names) // 2)
    chosen = early[np.linspace(0, len(early) - 1, JUDGES).astype(int)]
    root = (data / "tests" / "random_class").resolve()
    rows = [(root / shown.name(i), shown.class_names[shown.label(i)]) for i in chosen.tolist()]
    file = out / "judges.csv"
    write_csv(file, ("path", "label"), rows)
    return file


def base(arguments: argparse.Namespace, judges: Path, arm: str) -> Path:
    """The recipe of an arm that is searched."""
    settings: dict[str, Any] = recipe(arguments.data, arguments.start, arguments.images, arm)
    settings["data"].pop("validation_share", None)
    settings["training"]["epochs"] = arguments.epochs or EPOCHS[arguments.images]
    settings["data"]["validation_images"] = str(judges)
    settings["selection"] = {"metric": "validation/accuracy", "mode": "max"}
    file = arguments.out / f"{arm}.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    return file


def search(arguments: argparse.Namespace, file: Path, arm: str) -> Path:
    """Sweep, unless that was done; returns the recipe of the best trial."""
    out = arguments.out / "sweeps" / arm
    axes = [RATE, *ARMS[arm]]
    options = ("--trials", str(arguments.trials), "--out", str(out), "--quiet")
    vitreous("sweep", str(file), "--search", *axes, *options)
    return out / "best.yaml"


def found(best: Path, arm: str) -> dict[str, float]:
    """What the search chose, by setting."""
    settings = yaml.safe_load(best.read_text(encoding="utf-8"))
    chosen = {}
    for axis in [RATE, *ARMS[arm]]:
        value = settings
        for part in axis.split("=")[0].split("."):
            value = value[part]
        chosen[axis.split("=")[0]] = float(value)
    return chosen


def main() -> None:
    """Search, train and measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", required=True, help="folder of the model that arms start from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", default="train_3", choices=["train_3", "train_16"])
    parser.add_argument("--epochs", type=int, default=0, help="passes; 0: as many as run.py")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tests", nargs="+", default=["original", "same_class", "random_class"])
    parser.add_argument("--limit", type=int, default=600, help="images of each test set")
    arguments = parser.parse_args()
    arguments.explain = 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = json.loads((Path(arguments.start) / "config.json").read_text())["label_names"]
    (arguments.data / "classes.txt").write_text("".join(f"{n}\n" for n in names))
    write_json(arguments.out / "search.json", {"images": arguments.images})
    judges = write_judges(arguments.data, arguments.out)
    for arm in arguments.arms:
        file = base(arguments, judges, arm)
        best = search(arguments, file, arm)
        write_json(arguments.out / f"{arm}.json", found(best, arm))
        for seed in arguments.seeds:
            run = arguments.out / "runs" / f"{arm}-0-0-{seed}"
            if not (run / "results.json").is_file():
                options = ("--training.seed", str(seed), "--quiet")
                vitreous("train", str(best), "--out", str(run), *options)
            measure(run, arguments, arguments.out / "measured" / "searched" / run.name)
            print(run, read_json(arguments.out / f"{arm}.json"), flush=True)


if __name__ == "__main__":
    main()
