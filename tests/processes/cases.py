"""What is run on 1, 2 and 4 processes: commands, and how far apart what they wrote is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file

from helpers import (
    tiny_recipe,
    write_hugging_face,
    write_masked_set,
    write_squares,
    write_tar_shards,
)
from vitreous.models import load_model, save_model
from vitreous.results import Results

ROBUST_VIT = {
    "classification": {"weight": 0.2, "target": "prediction"},
    "relevance": {"weight": 0.8},
}
FGSM = {"name": "fgsm", "epsilon": 0.05, "step_size": 0.02}
CARRIED = {**FGSM, "random_start": False}
JOINT = {"classification": {}, "relevance": {}, "relevance_consistency": {"weight": 0.5}}
TRAINED: dict[str, dict[str, Any]] = {
    "relevance": {"objectives": ROBUST_VIT},
    "relevance alone": {"objectives": {"relevance": {}}},
    "RRR": {"objectives": {"classification": {}, "rrr": {"weight": 0.01}}},
    "GradMask": {"objectives": {"classification": {}, "gradmask": {}}},
    "FGSM": {"objectives": {"classification": {}}, "adversary": FGSM},
    "FGSM, carried over": {"objectives": {"classification": {}}, "adversary": CARRIED},
    "joint, masks for some": {"objectives": JOINT, "adversary": FGSM, "masks": "some"},
    "accumulation": {"objectives": JOINT, "adversary": FGSM, "training": {"accumulation": 2}},
    "shards": {
        "objectives": JOINT,
        "adversary": FGSM,
        "masks": "some",
        "training": {"sharding": "fsdp2", "accumulation": 2, "gradient_checkpointing": True},
    },
    "mixup and cutmix": {
        "objectives": {"classification": {}},
        "mixing": {"mixup": 0.4, "cutmix": 1.0},
        "training": {"accumulation": 2},
    },
    "tar files": {"objectives": ROBUST_VIT, "kept": "tar"},
    "Hugging Face dataset": {"objectives": ROBUST_VIT, "kept": "arrow"},
    "bfloat16": {"objectives": ROBUST_VIT, "training": {"precision": "bfloat16"}},
}
# bfloat16 rounds to 3 digits, and other batches round otherwise.
TOLERANCES = {"train, bfloat16": 5e-3, "train, shards": 1e-5}

# After how many passes through the model a process is killed, with work done and work left.
PASSES = {"mask": 5, "evaluate": 1, "attack": 8, "brain": 1}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command left.

    Attributes:
        values: Numbers that may differ by rounding.
        rows: What must be the same: names, counts, files.
    """

    values: dict[str, np.ndarray]
    rows: list[Any]

    def difference(self, other: Outcome) -> float:
        """Largest difference of the numbers; infinite where there are others."""
        if self.values.keys() != other.values.keys():
            return float("inf")
        return max(
            (float(np.abs(v - other.values[k]).max(initial=0)) for k, v in self.values.items()),
            default=0.0,
        )


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        name: What it is called.
        command: The command line, less where it writes.
        out: The option that says where.
        read: Reads what it left.
    """

    name: str
    command: Sequence[str]
    read: Callable[[Path], Outcome]
    out: str = "--out"

    @property
    def tolerance(self) -> float:
        """Largest difference that is rounding."""
        return TOLERANCES.get(self.name, 1e-6)

    def line(self, folder: Path) -> list[str]:
        """The command line that writes to a folder."""
        extra = ["--out", str(folder / "results.json")] if self.out == "--cache" else []
        return [*self.command, self.out, str(folder), *extra]


def prepare(root: Path, trained: Sequence[str] = tuple(TRAINED)) -> list[Case]:
    """Write images, recipes and a model; returns all cases.

    Args:
        root: A folder to write to.
        trained: Which recipes, of `TRAINED`.
    """
    write_masked_set(root / "all")
    write_masked_set(root / "some")
    for mask in sorted((root / "some" / "masks").rglob("*.png"))[::2]:
        mask.unlink()
    cases = [_train(root, name) for name in trained]
    images = str(write_squares(root, 7) / "images")
    model = load_model(
        *("vit_tiny_patch16_224",),
        pretrained=False,
        num_classes=2,
        image_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=2,
    )
    model.class_names = ["c0", "c1"]
    save_model(model, root / "model")
    shown = str(root / "model")
    matrix = np.random.default_rng(0).random((7, 7))
    np.save(root / "rdm.npy", np.abs(matrix - matrix.T))
    own = ["--device", "cpu", "--batch-size", "2"]
    sets = [shown, "--data", images, *own]
    stimuli = ["--stimuli", images, "--rdms", str(root / "rdm.npy"), "--layers", "blocks.*"]
    masks = ["--method", "relevance", "--model", shown, "--minimum-pixels", "0", "--sheet", "0"]
    attack = ["--attack", "pgd", "--epsilon", "4/255", "--steps", "3", "--quiet"]
    turned = ["--workers", "0", "--rotation", "90"]
    return [
        *cases,
        Case("mask", ["mask", images, *masks, "--batch-size", "2"], read_masks),
        Case("evaluate", ["evaluate", *sets, *turned], read_evaluation),
        Case("attack", ["attack", *sets, *attack], read_records),
        Case("brain", ["brain", "similarity", shown, *stimuli, *own], read_brain, "--cache"),
    ]


def _train(root: Path, name: str) -> Case:
    """A recipe: 12 images in batches of 5, 5 and 2, so that shares are uneven or empty."""
    settings = dict(TRAINED[name])
    form = settings.pop("kept", "files")
    training = {"epochs": 1, "batch_size": 5, "trackers": [], "samples": 0, "checkpoint_every": 1}
    # Without momentum, and a rate of 0.1, a difference of weights is one of gradients.
    values = tiny_recipe(
        root / settings.pop("masks", "all"),
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0},
        training={**training, **settings.pop("training", {})},
        **settings,
    )
    values["data"]["require_masks"] = False
    if form != "files":
        write = write_tar_shards if form == "tar" else write_hugging_face
        values["data"] |= {"images": str(write(root / "some", root / form)), "masks": None}
    file = root / f"{name.replace(' ', '_').replace(',', '')}.yaml"
    file.write_text(yaml.safe_dump(values))
    return Case(f"train, {name}", ["train", str(file), "--quiet"], read_run)


def kept(folder: Path) -> int:
    """Bytes of masks, rows and activations in a folder: what a killed command had done."""
    files = [file for file in folder.rglob("*") if file.suffix in {".png", ".bin", ".npy"}]
    return sum(file.stat().st_size for file in files)


def read_run(folder: Path) -> Outcome:
    """Weights and metrics of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [[sorted(line), line["step"], line["epoch"], line["split"]] for line in lines]
    return Outcome(load_file(folder / "model.safetensors"), rows)


def read_masks(folder: Path) -> Outcome:
    """Rows of the manifest, each once; the digests tell the masks."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    there = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))
    named = sorted([r["name"], r["kept"], r["mask"], r["digest"], r["quality"]] for r in rows)
    return Outcome({}, [named, there])


def read_records(folder: Path) -> Outcome:
    """Records of results."""
    records = Results.read(folder).records
    return Outcome(
        {f"{n} {r.metric}": np.array(r.value) for n, r in enumerate(records)},
        [[r.metric, r.n] for r in records],
    )


def read_evaluation(folder: Path) -> Outcome:
    """Records, and the images that are written beside them with what is said of each."""
    records, found = read_records(folder), Results.read(folder)
    files = sorted(f.name for f in (folder / "samples").rglob("*.png"))
    said = [
        (kind, shown["file"], shown["relevance"])
        for entry in found.extra["evaluation"].values()
        for kind in ("best", "worst")
        for shown in entry.get(kind, [])
    ]
    return Outcome(records.values, [*records.rows, files, said])


def read_brain(folder: Path) -> Outcome:
    """Activations and records."""
    (cache,) = {file.parent for file in folder.rglob("*.npy")}
    records = read_records(folder)
    layers = {file.name: np.load(file) for file in sorted(cache.glob("*.npy"))}
    return Outcome({**records.values, **layers}, [*records.rows, sorted(layers)])
