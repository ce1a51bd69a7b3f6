"""Gather what was measured into one small file, and turn that file into a page and a figure.

    python benchmarks/evidence/collect.py gather --measured evidence/runs/measured
    python benchmarks/evidence/collect.py page

`gather` keeps of each run and test set which images it has right, as hexadecimal digits, in
`docs/results/evidence.json`. `page` chooses each arm's learning rate on the first half of the
classes (by accuracy on `random_class`, among the rates whose accuracy on `original` there is within
two points of the model before), and tells what comes of it on the other half: accuracy, and the
paired difference from plain finetuning with a 95 % interval.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from vitreous.results import wilson_interval
from vitreous.statistics import paired_interval

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "results" / "evidence.json"
PAGE = ROOT / "docs" / "results" / "index.md"
MARKS = ("<!-- tables: benchmarks/evidence/collect.py page -->", "<!-- end of the tables -->")
FIGURE = ROOT / "docs" / "images" / "evidence.png"
SETS = ("original", "same_class", "random_class", "only_object", "only_background")
TOLERATED = 0.02
Answers = dict[str, np.ndarray]


def gather(measured: Path) -> None:
    """Write the file from the tables of predictions."""
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
    classes = [name.split("/")[0] for name in images["files"]]
    FILE.write_text(json.dumps({"classes": classes, "runs": runs}, indent=0) + "\n")
    print(f"{len(runs)} runs of {len(classes)} images: {FILE}")


def read() -> tuple[np.ndarray, dict[str, Answers]]:
    """The class of each image, and for each run and set which images it has right."""
    stored = json.loads(FILE.read_text())
    count = len(stored["classes"])
    runs = {
        run: {
            name: np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:count].astype(bool)
            for name, text in sets.items()
        }
        for run, sets in stored["runs"].items()
    }
    return np.array(stored["classes"]), runs


def choose(runs: dict[str, Answers], arm: str, chosen_on: np.ndarray) -> tuple[str, int]:
    """The run of an arm whose learning rate did best on some images, and among how many.

    Where every rate costs more on `original` than is tolerated, the one that costs least.
    """
    floor = runs["start"]["original"][chosen_on].mean() - TOLERATED
    tried = {run: sets for run, sets in runs.items() if Path(run).name.rsplit("-", 3)[0] == arm}
    kept = {r: s for r, s in tried.items() if s["original"][chosen_on].mean() >= floor}
    judged = "random_class" if kept else "original"
    best = max(kept or tried, key=lambda r: tried[r][judged][chosen_on].mean())
    return best, len(tried)


def arms(runs: dict[str, Answers]) -> list[str]:
    """Names of the arms that were tried, plain first."""
    names = {Path(run).name.rsplit("-", 3)[0] for run in runs if run != "start"}
    return sorted(names, key=lambda name: (name != "plain", name))


def percent(values: np.ndarray) -> str:
    """A share with its interval."""
    low, high = wilson_interval(int(values.sum()), len(values))
    return f"{100 * values.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def difference(values: np.ndarray, plain: np.ndarray) -> str:
    """The paired difference in points, with its interval."""
    gained, lost = int((values & ~plain).sum()), int((plain & ~values).sum())
    low, high = paired_interval(gained, lost, len(values))
    mean = 100 * (values.mean() - plain.mean())
    return f"{mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def page() -> None:
    """Write the tables and the figure."""
    classes, runs = read()
    half = np.unique(classes)[: len(np.unique(classes)) // 2]
    chosen_on = np.isin(classes, half)
    report = ~chosen_on
    picked = {arm: choose(runs, arm, chosen_on) for arm in arms(runs)}
    plain = runs[picked["plain"][0]]
    lines = [
        f"Accuracy in per cent on the {report.sum()} images of the classes on which nothing was",
        "chosen, with 95 % intervals, and BG-gap (same class less random class).",
        "",
        "| finetuning | learning rate | original | same class | random class | BG-gap |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    shown = {"none": ("start", 0), **picked}
    for arm, (run, tried) in shown.items():
        sets = runs[run]
        gap = 100 * (sets["same_class"][report].mean() - sets["random_class"][report].mean())
        rate = "-".join(Path(run).name.rsplit("-", 3)[1:3]) + f" of {tried}" if tried else "-"
        cells = [percent(sets[name][report]) for name in SETS[:3]]
        lines.append(f"| {arm.replace('_', ' ')} | {rate} | {' | '.join(cells)} | {gap:.1f} |")
    lines += ["", "Difference from plain finetuning, in points, on the same images:", ""]
    lines += ["| finetuning | original | same class | random class |", "| --- | --- | --- | --- |"]
    for arm, (run, _) in shown.items():
        if arm != "plain":
            cells = [difference(runs[run][name][report], plain[name][report]) for name in SETS[:3]]
            lines.append(f"| {arm.replace('_', ' ')} | {' | '.join(cells)} |")
    lines += ["", "Every run, all 1,200 images:", ""]
    lines += [f"| run | {' | '.join(n.replace('_', ' ') for n in SETS)} |", "| --- " * 6 + "|"]
    for run, sets in runs.items():
        cells = [f"{100 * sets[n].mean():.1f}" if n in sets else "-" for n in SETS]
        lines.append(f"| {Path(run).name.replace('_', ' ')} | {' | '.join(cells)} |")
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    made = "\n".join([MARKS[0], "", *lines, "", MARKS[1]])
    PAGE.write_text(before + made + after, encoding="utf-8")
    draw(shown, runs, report)
    print(f"{PAGE}\n{FIGURE}")


def draw(shown: dict[str, tuple[str, int]], runs: dict[str, Answers], report: np.ndarray) -> None:
    """Bars with intervals: an arm in each group, a test set in each colour."""
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for place, name in enumerate(SETS[:3]):
        shares = [runs[run][name][report] for run, _ in shown.values()]
        means = np.array([100 * s.mean() for s in shares])
        ends = 100 * np.array([wilson_interval(int(s.sum()), len(s)) for s in shares])
        at = np.arange(len(shares)) + 0.27 * (place - 1)
        spans = np.abs(ends.T - means)
        axes.bar(at, means, 0.25, yerr=spans, capsize=2, label=name.replace("_", " "))
    axes.set_xticks(range(len(shown)), [arm.replace("_", "\n") for arm in shown])
    axes.set_ylabel("accuracy in % (95 % interval)")
    axes.legend(frameon=False, ncols=3)
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
