"""What `vitreous sweep` chose for every arm, and what the chosen settings give on other classes.

    python benchmarks/evidence/search_page.py gather --data evidence/data --runs evidence/searched
    python benchmarks/evidence/search_page.py gather --data evidence/data --runs evidence/from_16
    python benchmarks/evidence/search_page.py page

`gather` keeps in `docs/results/searched.json` (from three images) or `searched_16.json` every trial
with its settings and accuracy, and which test images the runs of `search.py` have right. `page`
reports the half of the classes by which no trial was judged: classes of which images were seen
apart from those of which none was. The model before finetuning and plain finetuning that was not
searched are those of `guidance_page.py`, on the same test images.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from collect import ROOT, Answers, named, over_seeds, read, right_of
from groups_page import gather_or_write
from guidance_page import FILE as GRID
from guidance_page import Runs, Seeds, arm_lines, measured_sets, of_list, picked, points
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


def unsearched(images: str, chosen_on: np.ndarray) -> tuple[Answers, Seeds, str]:
    """What `guidance_page.py` has of the same test images.

    Args:
        images: The list from which both were trained.
        chosen_on: (N,) the test images by which a rate is chosen.

    Returns:
        The model before finetuning; plain finetuning by seed, and its learning rate.
    """
    _, runs = read(GRID)
    grid = of_list(runs, images)
    shown, rates = picked({run: grid[run] for run in grid if is_plain(run)}, chosen_on)
    return runs["start"], shown["plain"], rates["plain"].split()[0]


def is_plain(run: str) -> bool:
    """Whether a run is the model before finetuning, or plain finetuning."""
    return run == "start" or named(run)[0] == "plain"


def against_lines(
    grid: tuple[str, Seeds], arms: dict[str, Seeds], images: np.ndarray, sets: list[str]
) -> Iterator[str]:
    """What the searched arms gain over plain finetuning that was not searched.

    Args:
        grid: The learning rate of that, and its runs by seed.
        arms: Runs by seed of each searched arm.
        images: (N,) which test images are told of.
        sets: Names of the test sets.
    """
    rate, plain = grid
    yield f"**Against plain finetuning that was not searched** (lr {rate}, the grid above; the same"
    yield f"{images.sum()} images): its accuracy, then the difference from it of each arm at the"
    yield "settings just told, in points, of means over the seeds of both."
    yield ""
    yield f"| finetuning | seeds | {' | '.join(n.replace('_', ' ') for n in sets)} |"
    yield "| --- " * (2 + len(sets)) + "|"
    own = {name: over_seeds(plain, name, images) for name in sets}
    cells = [f"{100 * values.mean():.1f}" for values in own.values()]
    yield f"| plain, not searched | {len(plain)} | {' | '.join(cells)} |"
    for arm, seeds in arms.items():
        cells = [points(over_seeds(seeds, n, images) - values) for n, values in own.items()]
        yield f"| {arm.replace('_', ' ')} | {len(seeds)} | {' | '.join(cells)} |"
    yield ""


def lines_of(images: str, stored: dict[str, Any], runs: Runs) -> Iterator[str]:
    """The tables of what was trained from one list of images."""
    classes = np.array(stored["classes"])
    if read_json(GRID)["classes"] != stored["classes"]:
        raise SystemExit(f"{GRID} is of other test images than {PARTS[images]}")
    names = np.unique(classes)
    late = ~np.isin(classes, names[: len(names) // 2])
    start, plain, rate = unsearched(images, ~late)
    seen = np.isin(classes, stored["seen"])
    arms: dict[str, dict[str, Answers]] = {}
    for run, answers in runs.items():
        arm, _, seed = named(run)
        arms.setdefault(arm, {})[seed] = answers
    chosen = {arm: settings_of(values) for arm, values in stored["chosen"].items()}
    trained = {arm: arms[arm] for arm in chosen}
    shown = {"none": dict.fromkeys(arms["plain"], start), **trained}
    sets = measured_sets(runs)
    for title, told in (
        ("**Classes of which images were seen**", late & seen),
        ("**Classes of which none was seen**", late & ~seen),
    ):
        if told.any():
            yield from arm_lines(title, told, shown, ("chosen", {"none": "-", **chosen}), sets)
    yield from against_lines((rate, plain), trained, late & seen, sets)
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
        write_between(PAGE, marks, list(lines_of(images, read_json(file), runs)))
    print(PAGE)


if __name__ == "__main__":
    gather_or_write(__doc__, gather, page)
