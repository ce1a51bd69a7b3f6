"""Curves and accuracy of the models that the evidence starts from.

    python benchmarks/evidence/base_models.py gather "ViT-S/14, 112 px=vits14_tiny50_112/" \
        "small CrossViT, 64 px=runs/crossvit50/"
    python benchmarks/evidence/base_models.py page

`gather` keeps the run folders' curves (losses of training as means of 25 steps, accuracy at each
validation) in `docs/results/base_models.json`; `page` draws them and writes the table of
`docs/results/index.md`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import yaml
from collect import ROOT
from pages import write_between
from safetensors import safe_open

from vitreous.io import read_json, write_text
from vitreous.results import wilson_interval

FILE = ROOT / "docs" / "results" / "base_models.json"
PAGE = ROOT / "docs" / "results" / "index.md"
FIGURE = ROOT / "docs" / "images" / "base_models.png"
MARKS = ("<!-- tables: benchmarks/evidence/base_models.py page -->", "<!-- end of base models -->")
STEPS = 25  # of training, in one mean of the loss


def gathered(run: Path) -> dict[str, Any]:
    """What is kept of a run folder."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    trained = [(line["step"], line["loss"]) for line in lines if line["split"] == "train"]
    steps, losses = (np.array(part, float) for part in zip(*trained))
    whole = len(steps) // STEPS * STEPS
    means = [part[:whole].reshape(-1, STEPS).mean(1) for part in (steps, losses)]
    with safe_open(run / "model.safetensors", "pt") as tensors:
        shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
    recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    return {
        "parameters": int(sum(np.prod(shape) for shape in shapes)),
        "classes": read_json(run / "config.json")["num_classes"],
        "epochs": recipe["training"]["epochs"],
        "batch_size": recipe["training"]["batch_size"],
        "start": "pretrained" if recipe["model"].get("checkpoint") else "from scratch",
        "training": [[int(step), round(loss, 4)] for step, loss in zip(*means)],
        "validation": [
            [line["step"], round(line["accuracy"], 4)]
            for line in lines
            if line["split"] == "validation"
        ],
    }


def gather(runs: list[str]) -> None:
    """Write the file."""
    stored = {}
    for text in runs:
        title, place = text.rsplit("=", 1)
        stored[title] = gathered(Path(place))
    write_text(FILE, json.dumps(stored, indent=0) + "\n")
    print(FILE)


def page(images: int = 2500) -> None:
    """Write the table and the figure; accuracies are of the validation images of 50 classes."""
    stored = read_json(FILE)
    lines = [
        "| model | parameters | classes | training | steps | accuracy |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for title, run in stored.items():
        step, accuracy = run["validation"][-1]
        low, high = wilson_interval(round(accuracy * images), images)
        lines.append(
            f"| {title} | {run['parameters'] / 1e6:.1f} M | {run['classes']} | {run['start']}, "
            f"{run['epochs']} epochs of batches of {run['batch_size']} | {step:,} | "
            f"{100 * accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}] |"
        )
        for plot, name, scale in zip(axes, ("training", "validation"), (1, 100)):
            steps, values = np.array(run[name]).T
            plot.plot(steps / step, scale * values, marker="." if scale > 1 else "", label=title)
    for plot, label in zip(axes, ("loss in training", "accuracy on validation images, %")):
        plot.set_xlabel("share of the steps")
        plot.set_ylabel(label)
    axes[1].legend(frameon=False)
    figure.savefig(FIGURE, dpi=150)
    plt.close(figure)
    write_between(PAGE, MARKS, lines)
    print(f"{PAGE}\n{FIGURE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["gather", "page"])
    parser.add_argument("runs", nargs="*", metavar="TITLE=FOLDER")
    arguments = parser.parse_args()
    if arguments.what == "gather":
        gather(arguments.runs)
    else:
        page()
