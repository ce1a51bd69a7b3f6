"""What `vitreous sweep` chose for every arm, and what the chosen settings give on other classes.

    python benchmarks/evidence/search_page.py gather --data evidence/data --runs evidence/searched
    python benchmarks/evidence/search_page.py gather --data evidence/data --runs evidence/from_16
    python benchmarks/evidence/search_page.py page

`gather` keeps in `docs/results/searched.json` (from three images) or `searched_16.json` every trial
with its settings and accuracy, and which test images the runs of `search.py` have right. `page`
reports the half of the classes by which no trial was judged: classes of which images were seen
apart from those of which none was.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from collect import ROOT, Answers, named, read, right_of
from groups_page import gather_or_write
from guidance_page import arm_lines, measured_sets
from pages import write_between
from search import ARMS

from vitreous.io import read_json, write_text

FOLDER = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results" / "index.md"
SCRIPT = "benchmarks/evidence/search_page.py"
PARTS = {"train_3": "searched.json", "train_16": "searched_16.json"}


def gather(data: Path, runs: Path) -> None:
    """Write the file."""
    classes, right = right_of(runs / "measured")
    images = read_json(runs / "search.json")["images"]
    with (data / f"{images}.csv").open(encoding="utf-8", newline="") as file:
        seen = sorted({row["label"] for row in csv.DictReader(file)})
    trials, arms = {}, [arm for arm in ARMS if (runs / f"{arm}.json").is_file()]
    for arm in arms:
        with (runs / "sweeps" / arm / "trials.csv").open(encoding="utf-8", newline="") as file:
            trials[arm] = list(csv.DictReader(file))
    chosen = {arm: read_json(runs / f"{arm}.json") for arm in arms}
    stored = {"classes": classes, "seen": seen, "chosen": chosen, "trials": trials, "runs": right}
    file = FOLDER / PARTS[images]
    write_text(file, json.dumps(stored, indent=0) + "\n")
    print(f"{len(right)} runs of {len(classes)} images: {file}")


def settings_of(chosen: dict[str, float]) -> str:
    """Settings in short: `lr 2.1e-06, relevance 0.8`."""
    short = {name: name.removesuffix(".weight").rsplit(".", 1)[-1] for name in chosen}
    return ", ".join(f"{short[name]} {value:.2g}" for name, value in chosen.items())


def lines_of(stored: dict[str, Any], runs: dict[str, Answers]) -> Iterator[str]:
    """The tables."""
    classes = np.array(stored["classes"])
    names = np.unique(classes)
    late = ~np.isin(classes, names[: len(names) // 2])
    seen = np.isin(classes, stored["seen"])
    arms: dict[str, dict[str, Answers]] = {}
    for run, answers in runs.items():
        arm, _, seed = named(run)
        arms.setdefault(arm, {})[seed] = answers
    chosen = {arm: settings_of(values) for arm, values in stored["chosen"].items()}
    shown = {arm: arms[arm] for arm in chosen}
    for title, images in (
        ("**Classes of which images were seen**", late & seen),
        ("**Classes of which none was seen**", late & ~seen),
    ):
        if images.any():
            yield from arm_lines(title, images, shown, ("chosen", chosen), measured_sets(runs))
    yield "Accuracy of each trial, in per cent, on the 200 images by which it was judged:"
    yield ""
    yield "| finetuning | trials, by learning rate |"
    yield "| --- | --- |"
    for arm, trials in stored["trials"].items():
        tried = [(float(t["optimizer.lr"]), t["figure"]) for t in trials]
        cells = [f"{rate:.1g}: {100 * float(v):.1f}" if v else "-" for rate, v in sorted(tried)]
        yield f"| {arm.replace('_', ' ')} | {', '.join(cells)} |"
    yield ""


def page() -> None:
    """Write the tables of what was gathered."""
    for images, name in PARTS.items():
        if not (file := FOLDER / name).is_file():
            continue
        marks = (f"<!-- tables: {SCRIPT} page, {images} -->", f"<!-- end of {images} -->")
        _, runs = read(file)
        write_between(PAGE, marks, list(lines_of(read_json(file), runs)))
    print(PAGE)


if __name__ == "__main__":
    gather_or_write(__doc__, gather, page)
