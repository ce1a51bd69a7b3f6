"""What people would do against a background that goes with the class, arm by arm.

    python benchmarks/evidence/groups_run.py --data evidence/groups --out evidence/runs \
        --part search
    python benchmarks/evidence/groups_run.py --data evidence/groups --out evidence/runs \
        --part report --seeds 0 1 2

`search` trains every arm with each of its settings on the first set with seed 0; `report` takes the
setting that has the best worst group there and trains it on the other set with every seed. Each
run becomes one small file: which test images it has right, and the share of relevance on the
object. What is finished is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small import LABEL, TRANSFORMS

from vitreous.attribution import foreground_share, relevance
from vitreous.config import build
from vitreous.data.dataset import Dataset
from vitreous.data.images import evaluation_transform
from vitreous.data.readers import read_dataset
from vitreous.io import write_csv, write_json
from vitreous.models import Classifier, load_model
from vitreous.training import train
from vitreous.training.recipe import Recipe

Settings = dict[str, Any]
RATES = (1e-5, 4e-5)
EPOCHS = 2  # passes over the training list; arms that show it otherwise make about as many steps


def settings_of(arm: str) -> list[Settings]:
    """The four settings of an arm, in the order in which they are tried."""
    if arm == "plain":
        return [{"rate": rate} for rate in (1e-5, 4e-5, 3e-6, 1e-4)]
    if arm == "dfr":
        return [{"rate": r, "decay": d} for r in (1e-3, 1e-2) for d in (1e-2, 1.0)]
    strengths = {
        "gradmask": (80.0, 800.0),
        "rrr": (0.008, 0.08),
        "guidance": (0.8, 3.2),
        "swap": (1.0, 3.0),
        "group_dro": (0.1, 0.01),
        "jtt": (5, 20),
    }[arm]
    return [{"rate": rate, "strength": s} for s in strengths for rate in RATES]


ARMS = ("plain", "guidance", "swap", "group_dro", "jtt", "dfr", "gradmask", "rrr")


def objectives(arm: str, strength: float) -> Settings:
    """The objectives of an arm."""
    relevance_term = {"weight": strength, "background": 2.0, "foreground": 0.3, "target": "label"}
    return {
        "guidance": {**LABEL, "relevance": relevance_term},
        "gradmask": {**LABEL, "gradmask": {"weight": strength}},
        "rrr": {**LABEL, "rrr": {"weight": strength}},
        "swap": {"classification": {}, "background_swap": {"weight": strength}},
        "group_dro": {"group_dro": {"step_size": strength}},
    }.get(arm, {"classification": {}})


def listed(path: Path) -> Settings:
    """A list as a data source, all of it for training: the last epoch is kept."""
    return {"name": "folders", "images": str(path), "validation_share": 0.0}


def recipe(start: Path, data: Settings, terms: Settings, rate: float, **more: Any) -> Recipe:
    """One run's recipe."""
    training = {"epochs": EPOCHS, "batch_size": 8, "precision": "bfloat16", "trackers": []}
    decay = more.pop("decay", 1e-4)
    values = {
        "model": {"name": str(start)},
        "data": data,
        "transforms": TRANSFORMS,
        "objectives": terms,
        "optimizer": {"name": "adamw", "lr": rate, "weight_decay": decay},
        "schedule": {"name": "cosine"},
        "training": {**training, "samples": 0, **more},
    }
    return build(Recipe, values)


class Runner:
    """Makes the runs of one set.

    Args:
        data: Folder of the set.
        out: Folder of its files.
    """

    def __init__(self, data: Path, out: Path):
        self.data, self.out = data, out
        self.test = read_dataset(data / "test" / "list.csv")
        self.listed = data / "train" / "list.csv"

    def run(self, arm: str, settings: Settings, seed: int) -> Path:
        """Make one run, unless that was done; returns its file."""
        name = "-".join([arm, *(f"{v:g}" for v in settings.values()), str(seed)])
        file = self.out / f"{name}.json"
        if not file.is_file():
            with tempfile.TemporaryDirectory(dir=scratch()) as folder:
                model = self.trained(arm, settings, seed, Path(folder) / "run")
                self.measured(model, file)
            print(file, flush=True)
        return file

    def start(self) -> None:
        """Measure the model that all arms start from."""
        file = self.out / "start.json"
        if not file.is_file():
            self.measured(load_model(str(self.data / "start")), file)

    def trained(self, arm: str, settings: Settings, seed: int, folder: Path) -> Classifier:
        """Train one arm."""
        start, rate = self.data / "start", settings["rate"]
        terms = objectives(arm, settings.get("strength", 1.0))
        data, more = listed(self.listed), Settings(seed=seed)
        if arm == "dfr":
            start = self.plain_model(seed)
            data = {"name": "balanced", "source": listed(self.data / "balanced" / "list.csv")}
            more |= {"freeze": ["[!h]*"], "epochs": 5, "decay": settings["decay"]}
        elif arm == "group_dro":
            data = {"name": "balanced", "source": data, "to": "largest"}
            more |= {"epochs": EPOCHS // 2}
        elif arm == "jtt":
            data, shown = self.errors(settings, seed, folder.parent)
            more |= {"epochs": max(1, round(EPOCHS * shown))}
        train(recipe(start, data, terms, rate, **more), folder, quiet=True)
        if arm == "plain":
            kept = self.out / "models" / f"{rate:g}-{seed}"
            kept.mkdir(parents=True, exist_ok=True)
            for part in ("config.json", "model.safetensors"):
                shutil.copy(folder / part, kept / part)
        return load_model(str(folder))

    def plain_model(self, seed: int) -> Path:
        """The plainly trained model of a seed, at the rate that was chosen for plain training."""
        rate = chosen(self.out.parent / "search", "plain")["rate"]
        self.run("plain", {"rate": rate}, seed)
        return self.out / "models" / f"{rate:g}-{seed}"

    def errors(self, settings: Settings, seed: int, folder: Path) -> tuple[Settings, float]:
        """JTT's first stage, one pass; its second's data, and how much shorter an epoch was."""
        first = recipe(
            self.data / "start",
            listed(self.listed),
            {"classification": {}},
            settings["rate"],
            seed=seed,
            epochs=1,
        )
        train(first, folder / "first", quiet=True)
        shown = read_dataset(self.listed)
        right = answers(load_model(str(folder / "first")), shown) == shown.labels
        table = folder / "predictions.csv"
        rows = [(shown.name(i), bool(right[i])) for i in range(len(shown))]
        write_csv(table, ("file", "correct"), rows)
        factor = int(settings["strength"])
        data = {
            "name": "upweighted_errors",
            "source": listed(self.listed),
            "predictions": str(table),
            "factor": factor,
        }
        return data, len(right) / (len(right) + (~right).sum() * (factor - 1))

    def measured(self, model: Classifier, file: Path) -> None:
        """Measure a model on the test list and write the file."""
        right = answers(model, self.test) == self.test.labels
        about = {
            "right": np.packbits(right).tobytes().hex(),
            "foreground": [round(float(v), 4) for v in shares(model, self.test)],
        }
        write_json(file, about)


def scratch() -> str | None:
    """Memory, where there is such a folder: a run's checkpoints are not kept."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def views(model: Classifier, data: Dataset, step: int = 1) -> Iterator[tuple[torch.Tensor, ...]]:
    """Images, labels and masks as the model sees them, 32 at a time; every `step`-th image."""
    prepare = evaluation_transform(model.preprocessing)
    size = model.preprocessing.size
    for start in range(0, len(data), 32 * step):
        items = [data[i] for i in range(start, min(start + 32 * step, len(data)), step)]
        masks = torch.stack([i.mask for i in items if i.mask is not None])
        masks = torch.nn.functional.interpolate(masks, size=size, mode="nearest")
        labels = torch.tensor([i.label for i in items])
        yield torch.stack([prepare(i.image) for i in items]), labels, masks


@torch.inference_mode()
def answers(model: Classifier, data: Dataset) -> np.ndarray:
    """(N,) predicted class of each image."""
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        return np.concatenate([model(x).argmax(1).numpy() for x, _, _ in views(model, data)])


def shares(model: Classifier, data: Dataset) -> np.ndarray:
    """Share of the label's relevance on the object, of every seventh image."""
    model.eval()
    return np.concatenate(
        [foreground_share(relevance(model, x, y), m).numpy() for x, y, m in views(model, data, 7)]
    )


def worst_group(file: Path, data: Dataset) -> tuple[float, float]:
    """Accuracy of the worst group, and of all, of a run's file."""
    stored = np.frombuffer(
        bytes.fromhex(json.loads(file.read_text(encoding="utf-8"))["right"]), np.uint8
    )
    right = np.unpackbits(stored)[: len(data)]
    assert data.groups is not None
    groups = np.unique(data.groups)
    return min(right[data.groups == group].mean() for group in groups), right.mean()


def chosen(search: Path, arm: str) -> Settings:
    """The setting of an arm that did best in the search: by worst group, then by mean."""
    return json.loads((search / "chosen.json").read_text(encoding="utf-8"))[arm]


def main() -> None:
    """Make the runs of a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("search", "report"), required=True)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--tries", type=int, default=4, help="settings of each arm")
    arguments = parser.parse_args()
    runner = Runner(arguments.data / arguments.part, arguments.out / arguments.part)
    runner.start()
    if arguments.part == "report":
        for seed in arguments.seeds:
            for arm in arguments.arms:
                runner.run(arm, chosen(arguments.out / "search", arm), seed)
        return
    # DFR goes on from the plain model, whose setting must be chosen before.
    first = [arm for arm in arguments.arms if arm != "dfr"]
    for arms in (first, [arm for arm in arguments.arms if arm == "dfr"]):
        for tried in range(1, arguments.tries + 1):
            for arm in arms:
                choose(runner, arm, settings_of(arm)[:tried])


def choose(runner: Runner, arm: str, settings: list[Settings]) -> None:
    """Try the settings of an arm, and note the one that does best."""
    scores = [worst_group(runner.run(arm, setting, 0), runner.test) for setting in settings]
    file = runner.out / "chosen.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    write_json(file, {**kept, arm: settings[scores.index(max(scores))]})


if __name__ == "__main__":
    main()
