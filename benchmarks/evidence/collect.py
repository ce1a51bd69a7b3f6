"""Gather what was measured into one small file, and turn that file into a page and a figure.

    python benchmarks/evidence/collect.py gather --measured evidence/runs/measured
    python benchmarks/evidence/collect.py page

`gather` keeps of each run and test set which images it has right, as hexadecimal digits, in
`docs/results/evidence.json`, beside the runs of the same images that are there. `page` chooses each
arm's learning rate on the first half of the classes, with seed 0 (by accuracy on `random_class`,
among the rates whose accuracy on `original` there is within two points of the model before), and
tells what comes of it on the other half: accuracy, the mean over the seeds, and the difference from
plain finetuning with the same seeds on the same images. Intervals are over images; what each seed
gives stands beside them.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from pages import write_between

from vitreous.evaluation.metrics import mean_interval
from vitreous.results import wilson_interval

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "results" / "evidence.json"
PAGE = ROOT / "docs" / "results" / "index.md"
MARKS = ("<!-- tables: benchmarks/evidence/collect.py page -->", "<!-- end of the tables -->")
FIGURE = ROOT / "docs" / "images" / "evidence.png"
SETS = ("original", "same_class", "random_class", "only_object", "only_background")
TOLERATED = 0.02
GAP = "BG-gap"
Answers = dict[str, np.ndarray]


def right_of(measured: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The class of each image, and for each run and set which it has right, as digits."""
    runs, images = {}, {}
    for table in sorted(measured.rglob("predictions.csv")):
        run = str(table.parents[2].relative_to(measured))
        name = table.parent.name.rsplit("-", 1)[0]
        with table.open(encoding="utf-8", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
        files = [row["file"] for row in rows]
        if images.setdefault("files", files) != files:
            raise SystemExit(f"{table} is of other images than the tables before it")
        right = np.array([row["correct"] == "True" for row in rows])
        runs.setdefault(run, {})[name] = np.packbits(right).tobytes().hex()
    return [name.split("/")[0] for name in images["files"]], runs


def gather(measured: Path) -> None:
    """Write the file from the tables of predictions; other runs of the same images are kept."""
    classes, runs = right_of(measured)
    if FILE.is_file() and (stored := json.loads(FILE.read_text()))["classes"] == classes:
        merged = {**stored["runs"], **runs}
        runs = {
            run: merged[run] for run in sorted(merged, key=lambda name: (name != "start", name))
        }
    FILE.write_text(json.dumps({"classes": classes, "runs": runs}, indent=0) + "\n")
    print(f"{len(runs)} runs of {len(classes)} images: {FILE}")


def read(file: Path = FILE) -> tuple[np.ndarray, dict[str, Answers]]:
    """The class of each image, and for each run and set which images it has right."""
    stored = json.loads(file.read_text(encoding="utf-8"))
    count = len(stored["classes"])
    runs = {
        run: {
            name: np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:count].astype(bool)
            for name, text in sets.items()
        }
        for run, sets in stored["runs"].items()
    }
    return np.array(stored["classes"]), runs


def named(run: str) -> tuple[str, str, str]:
    """Arm, learning rate and seed of a run."""
    arm, digits, exponent, seed = Path(run).name.rsplit("-", 3)
    return arm, f"{digits}-{exponent}", seed


def choose(runs: dict[str, Answers], arm: str, chosen_on: np.ndarray) -> tuple[str, int]:
    """The learning rate of an arm that did best on some images with seed 0, and among how many.

    Where every rate costs more on `original` than is tolerated, the one that costs least.
    """
    floor = runs["start"]["original"][chosen_on].mean() - TOLERATED
    trained = {named(run): sets for run, sets in runs.items() if run != "start"}
    tried = {rate: sets for (a, rate, seed), sets in trained.items() if (a, seed) == (arm, "0")}
    kept = {r: s for r, s in tried.items() if s["original"][chosen_on].mean() >= floor}
    judged = "random_class" if kept else "original"
    return max(kept or tried, key=lambda r: tried[r][judged][chosen_on].mean()), len(tried)


def by_seed(runs: dict[str, Answers], arm: str, rate: str) -> dict[str, Answers]:
    """The runs of an arm at a rate, by their seed."""
    trained = {named(run): sets for run, sets in runs.items() if run != "start"}
    return {seed: sets for (a, r, seed), sets in trained.items() if (a, r) == (arm, rate)}


def arms(runs: dict[str, Answers]) -> list[str]:
    """Names of the arms that were tried, plain first."""
    names = {named(run)[0] for run in runs if run != "start"}
    return sorted(names, key=lambda name: (name != "plain", name))


def over_seeds(seeds: dict[str, Answers], name: str, images: np.ndarray) -> np.ndarray:
    """(images,) the share of the seeds that have each image right."""
    return np.mean([told_of(sets, name, images) for sets in seeds.values()], axis=0)


def percent(values: np.ndarray) -> str:
    """A mean over images with its interval."""
    low, high = interval(values)
    return f"{100 * values.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def interval(values: np.ndarray) -> tuple[float, float]:
    """Wilson's interval of a proportion; of a mean over seeds, the bootstrap's over images."""
    if set(np.unique(values)) <= {0, 1}:
        return wilson_interval(float(values.sum()), len(values))
    return several(values)


def several(values: np.ndarray) -> tuple[float, float]:
    """The bootstrap's interval of a mean over images, such as that of differences.

    Values that are all 0 have no spread: differences are no proportion, so theirs is [0, 0].
    """
    if len(values) > 1 and not values.any():
        return 0.0, 0.0
    bounds = mean_interval(values)
    if bounds is None:
        raise SystemExit("one image has no interval")
    return bounds


def told_of(sets: Answers, name: str, images: np.ndarray) -> np.ndarray:
    """(images,) whether each is right; of BG-gap, right with the same class's background only."""
    if name == GAP:
        return told_of(sets, "same_class", images) - told_of(sets, "random_class", images)
    return sets[name][images].astype(float)


def difference(seeds: dict[str, Answers], plain: dict[str, Answers], name: str, images) -> str:
    """The difference in points from the same seeds of plain finetuning, and that of each seed."""
    each = [
        told_of(sets, name, images) - told_of(plain[seed], name, images)
        for seed, sets in seeds.items()
        if seed in plain
    ]
    mean = np.mean(each, axis=0)
    low, high = several(mean)
    told = f"{100 * mean.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    singly = ", ".join(f"{100 * values.mean():+.1f}" for values in each)
    return told if len(each) == 1 else f"{told} ({singly})"


def page() -> None:
    """Write the tables and the figure."""
    classes, runs = read()
    half = np.unique(classes)[: len(np.unique(classes)) // 2]
    chosen_on = np.isin(classes, half)
    picked = {arm: choose(runs, arm, chosen_on) for arm in arms(runs)}
    shown = {arm: by_seed(runs, arm, rate) for arm, (rate, _) in picked.items()}
    # What was not trained has no seed: it stands beside every one.
    none = dict.fromkeys(shown["plain"], runs["start"])
    rates = {arm: f"{rate} of {tried}" for arm, (rate, tried) in picked.items()}
    lines = tables({"none": none, **shown}, {"none": "-", **rates}, ~chosen_on)
    lines += ["", f"Every run, all {len(classes):,} images:", ""]
    lines += [f"| run | {' | '.join(n.replace('_', ' ') for n in SETS)} |", "| --- " * 6 + "|"]
    for run, sets in runs.items():
        cells = [f"{100 * sets[n].mean():.1f}" if n in sets else "-" for n in SETS]
        lines.append(f"| {Path(run).name.replace('_', ' ')} | {' | '.join(cells)} |")
    write_between(PAGE, MARKS, lines)
    draw({"none": none, **shown}, ~chosen_on)
    print(f"{PAGE}\n{FIGURE}")


def tables(
    shown: dict[str, dict[str, Answers]], rates: dict[str, str], report: np.ndarray
) -> list[str]:
    """Accuracy of each arm, and what it gains over plain finetuning."""
    lines = [
        f"Accuracy in per cent on the {report.sum()} images of the classes on which nothing was",
        "chosen, mean over the seeds with 95 % intervals over images, and BG-gap (same class less",
        "random class).",
        "",
        "| finetuning | learning rate | seeds | original | same class | random class | BG-gap |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm, seeds in shown.items():
        cells = [percent(over_seeds(seeds, name, report)) for name in (*SETS[:3], GAP)]
        count = "-" if arm == "none" else str(len(seeds))
        lines.append(f"| {arm.replace('_', ' ')} | {rates[arm]} | {count} | {' | '.join(cells)} |")
    lines += ["", "Difference from plain finetuning with the same seeds, in points, on the same"]
    lines += ["images (in brackets the interval, in parentheses each seed):", ""]
    lines += ["| finetuning | original | same class | random class | BG-gap |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for arm, seeds in shown.items():
        if arm != "plain":
            names = (*SETS[:3], GAP)
            cells = [difference(seeds, shown["plain"], name, report) for name in names]
            lines.append(f"| {arm.replace('_', ' ')} | {' | '.join(cells)} |")
    return lines


def draw(shown: dict[str, dict[str, Answers]], report: np.ndarray) -> None:
    """Bars with intervals: an arm in each group, a test set in each color."""
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for place, name in enumerate(SETS[:3]):
        shares = [over_seeds(seeds, name, report) for seeds in shown.values()]
        means = np.array([100 * s.mean() for s in shares])
        ends = 100 * np.array([interval(s) for s in shares])
        at = np.arange(len(shares)) + 0.27 * (place - 1)
        spans = np.abs(ends.T - means)
        axes.bar(at, means, 0.25, yerr=spans, capsize=2, label=name.replace("_", " "))
    axes.set_xticks(range(len(shown)), [arm.replace("_", "\n") for arm in shown])
    axes.set_ylabel("accuracy in % (95 % interval)")
    figure.legend(loc="outside upper center", frameon=False, ncols=3)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=150)


def main() -> None:
    """Gather, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["gather", "page"])
    parser.add_argument("--measured", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "gather":
        gather(arguments.measured)
    else:
        page()


if __name__ == "__main__":
    main()
