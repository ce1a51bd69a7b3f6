"""Rotation × adversary on photographs, and with guidance and swapped backgrounds beside them.

    python benchmarks/rotation.py --model vits14_tiny50_112/ --out runs/vit \
        --data tiny_imagenet_50/ --macaque macaque_v4/ --rsa rsa92/ --kind vit

All arms (those of `joint.py`) start from one classifier of Tiny-ImageNet's classes, cut down to the
rows of its head that are the first ten, see the same images in the order of the seed for the same
number of steps, and are measured as they are after the last. A run that is there is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import torch

from joint import Experiment, read_tests, ten_classes, train_arm
from rotation_measure import STAGES, Measurer, Sizes
from vitreous import Classifier, load_model, save_model
from vitreous.data.images import save_image

ARMS = {
    "start": "start",
    "plain": "plain",
    "rotation": "rotation",
    "adversary": "adversary",
    "both": "robust",
    "both + guidance": "robust + guided",
    "both + swap": "robust + swapped",
    "both + guidance + swap": "joint (robust + guided + swapped)",
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """How one kind of model is trained and measured.

    Attributes:
        size: Side of its images.
        overrides: Over `joint/small_crossvit`.
        training: Of each arm.
        layers: Candidates for V4 and IT.
        sizes: How much is measured.
    """

    size: int
    overrides: dict[str, Any]
    training: dict[str, Any]
    layers: tuple[str, ...]
    sizes: Sizes


VIT = Kind(
    112,
    {
        "model": {"options": None, "image_size": None, "pretrained": True},
        "transforms": {"train": {"random_resized_crop": {"interpolation": "bicubic"}}},
        "optimizer": {"name": "adamw", "lr": 2e-5, "weight_decay": 1e-4},
    },
    {"epochs": 1, "batch_size": 16, "precision": "bfloat16", "workers": 0},
    ("blocks.4", "blocks.5", "blocks.6", "blocks.7", "blocks.8"),
    Sizes(250, 40, 40, 600, ("apgd_ce", "square"), 20, 50, "bfloat16"),
)
CROSSVIT = Kind(
    64,
    {},
    {"epochs": 1, "batch_size": 32, "workers": 0},
    ("blocks.*.blocks.*.*",),
    Sizes(500, 100, 100, 600, ("apgd_ce", "apgd_t", "square"), 10, 50, "float32"),
)
KINDS = {"vit": VIT, "crossvit": CROSSVIT}


def narrow(place: Path, classes: list[str]) -> Classifier:
    """The model with only the rows of its head (or heads) that are some of its classes."""
    whole, few = load_model(str(place)), load_model(str(place), num_classes=len(classes))
    rows = [whole.class_names.index(name) for name in classes]
    kept = few.net.state_dict()
    for name, value in whole.net.state_dict().items():
        same = value.shape == kept[name].shape
        kept[name] = value if same else value[rows]
    few.net.load_state_dict(kept)
    few.class_names = list(classes)
    return few.eval()


def experiment(options: argparse.Namespace) -> Experiment:
    """What all arms share: the ten classes, the start, the recipe."""
    kind = KINDS[options.kind]
    masked, stream = options.masked, options.masked + options.stream
    lists = options.out / "lists"
    classes, _, data = ten_classes(options.data, lists, slice(masked, stream), slice(masked))
    sized = {"size": kind.size}
    values = {
        **kind.overrides,
        "data": data,
        "transforms": {
            "train": {
                "random_resized_crop": {
                    **kind.overrides.get("transforms", {})
                    .get("train", {})
                    .get("random_resized_crop", {}),
                    **sized,
                }
            },
            "validation": {"resize": sized, "center_crop": sized},
        },
    }
    training = {**kind.training, "epochs": options.epochs}
    return Experiment(
        "joint/small_crossvit",
        values,
        lambda folder: narrow(options.model, classes),
        training=training,
    )


def trained(work: Experiment, arm: str, seed: int, folder: Path) -> Classifier:
    """The model of an arm, trained unless that was done."""
    last = folder / "last"
    if not (last / "model.safetensors").is_file():
        classifier, seconds = train_arm(work, ARMS[arm], seed, folder)
        save_model(classifier, last)
        (folder / "cpu_seconds").write_text(f"{seconds:.0f}\n")
    return load_model(last)


def write_tests(data: Path, out: Path) -> Path:
    """The test images, and (in `others`) their objects on the background of another class."""
    boxes = json.loads((data / "boxes.json").read_text("utf-8"))
    classes = sorted(p.name for p in (data / "val").iterdir())[:10]
    if not (out / "others").is_dir():
        shifted = read_tests(data / "val", classes, boxes).shifted["background of another class"]
        files = [p for name in classes for p in sorted((data / "val" / name).iterdir())]
        for image, file in zip(shifted, files, strict=True):
            save_image(image, out / "unfinished" / file.parent.name / f"{file.stem}.png")
        (out / "unfinished").rename(out / "others")
    for name in classes:
        (out / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        if not (out / "tests" / name).exists():
            (out / "tests" / name).symlink_to((data / "val" / name).resolve())
    return out / "tests"


def main() -> None:
    """Train and measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of the classifier")
    parser.add_argument("--data", type=Path, required=True, help="folder of Tiny-ImageNet")
    parser.add_argument("--macaque", type=Path, required=True, help="folder of the V4 sessions")
    parser.add_argument("--rsa", type=Path, required=True, help="folder of the 92-image set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--stream", type=int, default=60, help="images a class without masks")
    parser.add_argument("--masked", type=int, default=20, help="images a class with masks")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no arm after so long")
    options = parser.parse_args()
    kind, began = KINDS[options.kind], time.monotonic()
    work = experiment(options)
    measure = Measurer(
        write_tests(options.data, options.out),
        options.out / "others",
        options.macaque,
        options.rsa,
        kind.layers,
        options.out / "work",
        kind.sizes,
    )
    for seed in options.seeds:
        for arm in options.arms:
            if time.monotonic() - began > 60 * options.minutes or (arm == "start" and seed):
                continue
            folder = options.out / f"seed{seed}" / arm.replace(" + ", "_")
            file = options.out / "measured" / f"{folder.name}-{seed}.json"
            load = functools.partial(trained, work, arm, seed, folder)
            measure(load, file, options.stages)
            print(file, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
