"""Joint training, arm by arm: what each part brings and what it costs.

    python benchmarks/joint.py --set generated --out runs/joint
    python benchmarks/joint.py --set tiny_imagenet --data tiny_imagenet_50/ --out runs/joint
    python benchmarks/joint.py --set generated --out runs/joint --table

All arms start from one model and see the same pictures for the same number of steps, in an order
that is the seed's; only objectives, adversary and turns differ. Stopped by --minutes or otherwise,
it goes on where it was. The model after the last step is measured, whatever it is.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm

from vitreous.attacks import PGD
from vitreous.attribution import foreground_share, relevance
from vitreous.config import merge
from vitreous.data.generated.scenes import (
    World,
    draw_scenes,
    sample_scenes,
    shift_cues,
    without_cues,
)
from vitreous.demo.run import with_head
from vitreous.io import write_json
from vitreous.models import Classifier, load_model, save_model
from vitreous.training import load_recipe, train
from vitreous.training.objectives.background_swap import fill_holes

# What is laid over joint/small_*: the recipe has turns, FGSM, guidance and swapped backgrounds.
GENTLE: dict[str, Any] = {"adversary": None, "transforms": {"train": {"quarter_turn": False}}}
GUIDED: dict[str, Any] = {"background_swap": False}
SWAPPED: dict[str, Any] = {"relevance": False}
NEITHER: dict[str, Any] = {"relevance": False, "background_swap": False}
CONSISTENT: dict[str, Any] = {"relevance_consistency": {}}
STRONG: dict[str, Any] = {"background_swap": False, "relevance": {"weight": 20.0}}
STEADY: dict[str, Any] = {"relevance_consistency": {"weight": 20.0}}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {**GENTLE, "objectives": NEITHER},
    "rotation": {"adversary": None, "objectives": NEITHER},
    "adversary": {"transforms": {"train": {"quarter_turn": False}}, "objectives": NEITHER},
    "guided": {**GENTLE, "objectives": GUIDED},
    "swapped": {**GENTLE, "objectives": SWAPPED},
    "guided + swapped": GENTLE,
    "robust": {"objectives": NEITHER},
    "robust + guided": {"objectives": GUIDED},
    "robust + swapped": {"objectives": SWAPPED},
    "joint (robust + guided + swapped)": {},
    "robust + guided, clean maps": {
        "objectives": merge(GUIDED, {"relevance": {"images": "clean"}})
    },
    "robust + guided, ramp 0 to 0.5": {
        "objectives": merge(GUIDED, {"relevance": {"ramp": [0, 0.5]}})
    },
    "robust + guided, ramp 0.5 to 0": {
        "objectives": merge(GUIDED, {"relevance": {"ramp": [0.5, 0]}})
    },
    "robust + guided at 20": {"objectives": STRONG},
    "robust + guided at 20, clean maps": {
        "objectives": merge(STRONG, {"relevance": {"images": "clean"}})
    },
    "robust + guided at 20, ramp 0 to 0.5": {
        "objectives": merge(STRONG, {"relevance": {"ramp": [0, 0.5]}})
    },
    "robust + guided at 20, ramp 0.5 to 0": {
        "objectives": merge(STRONG, {"relevance": {"ramp": [0.5, 0]}})
    },
    "robust + consistency": {"objectives": {**NEITHER, **CONSISTENT}},
    "robust + consistency at 20": {"objectives": {**NEITHER, **STEADY}},
    "robust + guided at 20 + consistency at 20": {"objectives": {**STRONG, **STEADY}},
    "joint, clean maps": {"objectives": {"relevance": {"images": "clean"}}},
    "joint, ramps 0 to 0.5": {
        "objectives": {"relevance": {"ramp": [0, 0.5]}, "background_swap": {"ramp": [0, 0.5]}}
    },
    "joint, ramps 0.5 to 0": {
        "objectives": {"relevance": {"ramp": [0.5, 0]}, "background_swap": {"ramp": [0.5, 0]}}
    },
    "joint + consistency": {"objectives": CONSISTENT},
    "joint + consistency at 20": {"objectives": STEADY},
}
SOURCE = {"name": "folders", "validation_share": 0.02}
MAPS = ("map turned", "map under PGD")
MEASURES = ("clean", "shifted", "shifted 2", "PGD", "turned", "foreground", "CPU seconds")


@dataclasses.dataclass(frozen=True)
class Tests:
    """Test pictures: the same objects as they are, and with what surrounds them changed.

    Attributes:
        labels: (N,).
        masks: (N, 1, S, S).
        clean: (N, 3, S, S).
        shifted: Name → pictures (N, 3, S, S); the names are in the order of the table.
        hard: Name of the pictures that are attacked and turned.
    """

    labels: Tensor
    masks: Tensor
    clean: Tensor
    shifted: dict[str, Tensor]
    hard: str = "clean"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One set of pictures: where arms start, their recipe, and what they are measured on."""

    recipe: str
    overrides: dict[str, Any]
    start: Callable[[Path], Classifier]
    tests: Tests | None = None
    training: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"epochs": 1, "batch_size": 32}
    )


def generated(options: argparse.Namespace) -> Experiment:
    """The demo's set, whose tag in a corner is a shortcut; starts from a model that took it.

    Pictures without a tag are attacked and turned: with it, the tag alone answers everything.
    """

    def start(folder: Path) -> Classifier:
        classifier = load_model(str(resources.files("vitreous") / "demo" / "pretrained"))
        torch.manual_seed(0)
        classifier = with_head(classifier, World().classes)
        train(load_recipe("demo/shortcut"), folder, classifier=classifier, quiet=True)
        return classifier

    world = World()
    scenes = sample_scenes(world, 300, seed=900_001)
    clean, masks = draw_scenes(world, scenes)
    shifted = {
        "tag of another class": draw_scenes(world, shift_cues(world, scenes, seed=900_002))[0],
        "no tag": draw_scenes(world, without_cues(scenes))[0],
    }
    tests = Tests(scenes.labels, masks, clean, shifted, hard="no tag")
    return Experiment("joint/small_vit", {}, start, tests)


def tiny_imagenet(options: argparse.Namespace) -> Experiment:
    """The first 10 classes of Tiny-ImageNet at 64 pixels, boxes as masks.

    The arms train on 150 pictures a class without masks and 50 with, after a start from scratch
    on all 500 without masks.
    """
    lists = options.out / "tiny_imagenet"
    classes, boxes, data = ten_classes(options.data, lists, slice(50, 200), slice(0, 50))
    write_list(options.data, classes, boxes, slice(0, 500), lists, "start")

    def start(folder: Path) -> Classifier:
        values = {
            "model": {"num_classes": 10},
            "data": {**SOURCE, "images": str(lists / "start.csv")},
            "training": {"epochs": options.start_epochs},
            "selection": {"metric": "validation/loss", "mode": "min"},
        }
        recipe = load_recipe("crossvit/small_64_plain", values)
        torch.manual_seed(0)
        classifier = recipe.model.load(classes)
        train(recipe, folder, classifier=classifier, quiet=True)
        return classifier

    tests = read_tests(options.data / "val", classes, boxes)
    return Experiment("joint/small_crossvit", {"data": data}, start, tests)


def ten_classes(
    root: Path, lists: Path, stream: slice, masked: slice
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """The first ten classes, the boxes, and a recipe's data: a stream, and images with masks."""
    boxes = json.loads((root / "boxes.json").read_text())
    classes = sorted(p.name for p in (root / "train").iterdir())[:10]
    for name, part in {"stream": stream, "masked": masked}.items():
        write_list(root, classes, boxes, part, lists, name)
    data = {n: {**SOURCE, "images": str(lists / f"{n}.csv")} for n in ("stream", "masked")}
    return classes, boxes, data


def write_list(
    root: Path, classes: list[str], boxes: dict[str, Any], part: slice, out: Path, name: str
) -> None:
    """Write a list of training pictures, with their boxes as mask files for the masked part."""
    rows = []
    for label in classes:
        for path in sorted((root / "train" / label).iterdir())[part]:
            mask = ""
            if name == "masked":
                mask = str(Path("masks") / f"{path.stem}.png")
                (out / "masks").mkdir(parents=True, exist_ok=True)
                box_mask(boxes[f"train/{label}/{path.name}"]).save(out / mask)
            rows.append({"path": str(path.resolve()), "label": label, "mask": mask})
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "mask"])
        writer.writeheader()
        writer.writerows(rows)


def box_mask(box: list[int]) -> Image.Image:
    """Draw a box (xmin, ymin, xmax, ymax) of a 64-pixel picture as a mask."""
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def read_tests(root: Path, classes: list[str], boxes: dict[str, Any]) -> Tests:
    """Read the test pictures; put each box on the background of a picture of the next class.

    The pasted edge is hard and the boxes are rectangles, unlike the feathered swaps of training.
    The second shift is sensor noise, of standard deviation 0.1.
    """
    images, masks, labels = [], [], []
    for label, name in enumerate(classes):
        for path in sorted((root / name).iterdir()):
            images.append(pil_to_tensor(Image.open(path).convert("RGB")) / 255)
            masks.append((pil_to_tensor(box_mask(boxes[f"val/{name}/{path.name}"])) > 0).float())
            labels.append(label)
    clean, mask = torch.stack(images), torch.stack(masks)
    donors = (torch.arange(len(clean)) + len(clean) // len(classes)) % len(clean)
    others = fill_holes(clean[donors], 1 - mask[donors])
    noise = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    shifted = {
        "background of another class": clean * mask + others * (1 - mask),
        "noise": (clean + noise).clamp(0, 1),
    }
    return Tests(torch.tensor(labels), mask, clean, shifted)


@torch.no_grad()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy."""
    parts = zip(images.split(256), labels.split(256))
    return sum(int((classifier(x).argmax(1) == y).sum()) for x, y in parts) / len(labels)


def correlation(maps: Tensor, others: Tensor) -> float:
    """Mean over pictures of Pearson's correlation of two maps (N, 1, H, W)."""
    rows = zip(maps.flatten(1), others.flatten(1))
    return statistics.mean(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in rows)


def measure(classifier: Classifier, tests: Tests, attacked: int) -> dict[str, float]:
    """All figures of one model."""
    classifier.eval()
    labels, figures = tests.labels, {"clean": accuracy(classifier, tests.clean, tests.labels)}
    for name, images in zip(("shifted", "shifted 2"), tests.shifted.values()):
        figures[name] = accuracy(classifier, images, labels)
    hard = {"clean": tests.clean, **tests.shifted}[tests.hard]
    chosen = torch.arange(attacked) * len(labels) // attacked
    attack = PGD(epsilon=2 / 255, steps=10)
    generator = torch.Generator().manual_seed(0)
    fooling = attack(classifier, hard[chosen], labels[chosen], generator=generator)
    figures["PGD"] = accuracy(classifier, fooling, labels[chosen])
    turned = [torch.rot90(hard, k, (2, 3)) for k in (1, 2, 3)]
    figures["turned"] = statistics.mean(accuracy(classifier, x, labels) for x in turned)
    parts = zip(*(t.split(128) for t in (tests.clean, labels, tests.masks)))
    shares = [foreground_share(relevance(classifier, x, y), m) for x, y, m in parts]
    figures["foreground"] = float(torch.cat(shares).mean())
    figures["area"] = float(tests.masks.mean())
    maps = relevance(classifier, hard[chosen], labels[chosen])
    turned_maps = [
        torch.rot90(
            relevance(classifier, torch.rot90(hard[chosen], k, (2, 3)), labels[chosen]), -k, (2, 3)
        )
        for k in (1, 2, 3)
    ]
    figures["map turned"] = statistics.mean(correlation(maps, other) for other in turned_maps)
    figures["map under PGD"] = correlation(maps, relevance(classifier, fooling, labels[chosen]))
    return figures


def train_arm(
    experiment: Experiment, arm: str, seed: int, folder: Path
) -> tuple[Classifier, float]:
    """Train one arm of one seed from the start; the model, and the CPU seconds of its training."""
    start = folder.parent.parent / "start"
    if not (start / "last" / "model.safetensors").is_file():
        save_model(experiment.start(start), start / "last")
    classifier = load_model(start / "last")
    began = time.process_time()
    if arm != "start":
        values = merge(experiment.overrides, ARMS[arm])
        values = merge(values, {"training": {**experiment.training, "seed": seed}})
        values = merge(values, {"robust_validation": {"images": 0}})
        values = merge(values, {"model": {"name": str(start / "last")}})
        values = merge(values, {"selection": {"metric": "validation/loss", "mode": "min"}})
        recipe = load_recipe(experiment.recipe, values)
        train(recipe, folder, classifier=classifier, quiet=True)
    return classifier, time.process_time() - began


def run_arm(
    experiment: Experiment, arm: str, seed: int, folder: Path, attacked: int
) -> dict[str, float]:
    """Train one arm of one seed from the start, measure it, keep the figures."""
    classifier, seconds = train_arm(experiment, arm, seed, folder)
    assert experiment.tests is not None
    figures = {**measure(classifier, experiment.tests, attacked), "CPU seconds": seconds}
    write_json(folder / "figures.json", figures)
    return figures


def table(root: Path, arms: list[str], seeds: list[int], measures: tuple[str, ...]) -> str:
    """Mean and range over the seeds that are there, as Markdown."""
    lines = ["| arm | " + " | ".join(measures) + " |", "| --- |" + " --- |" * len(measures)]
    area = ""
    for arm in arms:
        files = [root / f"seed{s}" / arm / "figures.json" for s in seeds]
        found = [json.loads(f.read_text()) for f in files if f.is_file()]
        if found:
            cells = [show([row[m] for row in found], m) for m in measures]
            note = "" if len(found) == len(seeds) or arm == "start" else f" (seeds: {len(found)})"
            lines.append(f"| {arm}{note} | " + " | ".join(cells) + " |")
            area = f"{100 * found[0]['area']:.1f} % of the pictures is foreground."
    return "\n".join([*lines, "", area])


def show(values: list[float], name: str) -> str:
    """Mean, with the least and the largest; accuracies in per cent."""
    if name in MAPS:
        return f"{statistics.mean(values):.2f} ({min(values):.2f}–{max(values):.2f})"
    if name == "CPU seconds":
        return f"{statistics.mean(values):.0f}"
    low, mean, high = (100 * f(values) for f in (min, statistics.mean, max))
    return f"{mean:.1f} ({low:.1f}–{high:.1f})"


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--set", choices=["generated", "tiny_imagenet"], required=True)
    parser.add_argument("--data", type=Path, help="folder of Tiny-ImageNet, with boxes.json")
    parser.add_argument("--out", type=Path, default=Path("runs/joint"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=["start", *ARMS])
    parser.add_argument("--attacked", type=int, default=150, help="pictures under PGD")
    parser.add_argument("--start-epochs", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no arm after so long")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--maps", action="store_true", help="also how maps turn and withstand PGD")
    options = parser.parse_args()
    root, began = options.out / options.set, time.monotonic()
    jobs = [(s, a) for s in options.seeds for a in options.arms if a != "start" or s == 0]
    missing = [(s, a) for s, a in jobs if not (root / f"seed{s}" / a / "figures.json").is_file()]
    if missing and not options.table:
        experiment = {"generated": generated, "tiny_imagenet": tiny_imagenet}[options.set](options)
        for seed, arm in (bar := tqdm(missing)):
            if time.monotonic() - began > 60 * options.minutes:
                break
            bar.set_description(f"seed {seed}: {arm}")
            run_arm(experiment, arm, seed, root / f"seed{seed}" / arm, options.attacked)
    measures = (*MEASURES[:-1], *MAPS, MEASURES[-1]) if options.maps else MEASURES
    print(table(root, options.arms, options.seeds, measures))


if __name__ == "__main__":
    main()
