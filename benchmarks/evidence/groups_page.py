"""Gather what `groups_run.py` measured into one small file, and turn it into tables and a figure.

    python benchmarks/evidence/groups_page.py gather --data evidence/groups --runs evidence/runs
    python benchmarks/evidence/groups_page.py page

`gather` keeps in `docs/results/groups.json` which test images each run has right, and the share of
relevance on the object. `page` tells of the set on which nothing was chosen: the worst group (of
each seed, then their mean), all groups, the foreground share, and the difference of each from plain
finetuning with the same seeds on the same images. Intervals are of a bootstrap over the objects of
each class, since an object stands on both kinds of background.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from pages import write_between

from vitreous.io import read_json, write_text
from vitreous.statistics import percentile_interval

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "results" / "groups.json"
PAGE = ROOT / "docs" / "results" / "index.md"
FIGURE = ROOT / "docs" / "images" / "groups.png"
MARKS = ("<!-- tables: benchmarks/evidence/groups_page.py page -->", "<!-- end of groups -->")
FIRST = ("start", "plain")
NAMES = {"start": "none", "group_dro": "GroupDRO", "jtt": "JTT", "dfr": "DFR", "rrr": "RRR"}
CHOICE = "groups to choose"
NEEDS = {
    "jtt": CHOICE,
    "group_dro": "groups",
    "dfr": "groups of other images",
    "start": "-",
    "plain": CHOICE,
}
DRAWS = 2000
CHOSEN = {
    False: "nothing was chosen",
    True: "the settings were chosen, so that gains are told too well",
}


def gather(data: Path, runs: Path) -> None:
    """Write the file."""
    stored = {}
    for part in sorted(p.name for p in runs.iterdir() if (p / "start.json").is_file()):
        test = data / part / "test"
        with (test / "list.csv").open(encoding="utf-8", newline="") as file:
            groups = [row["group"] for row in csv.DictReader(file)]
        with (test / "metadata.csv").open(encoding="utf-8", newline="") as file:
            objects = [row["cutout"] for row in csv.DictReader(file)]
        files = sorted((runs / part).glob("*.json"))
        measured = {f.stem: read_json(f) for f in files if f.stem != "chosen"}
        chosen = read_json(runs / "search" / "chosen.json")
        stored[part] = {"groups": groups, "objects": objects, "runs": measured, "chosen": chosen}
    write_text(FILE, json.dumps(stored) + "\n")
    print({part: len(about["runs"]) for part, about in stored.items()}, FILE)


@dataclasses.dataclass(frozen=True)
class Part:
    """What was measured on one set.

    Attributes:
        groups: (N,) number of each test image's group.
        group_names: Their names.
        objects: (N,) number of each test image's object.
        right: Run → (N,) whether each image is right.
        foreground: Run → (images,) share of relevance on the object, of every seventh image.
        chosen: Arm → its setting.
    """

    groups: np.ndarray
    group_names: list[str]
    objects: np.ndarray
    right: dict[str, np.ndarray]
    foreground: dict[str, np.ndarray]
    chosen: dict[str, dict[str, float]]

    @classmethod
    def read(cls, part: str) -> Part | None:
        """Read a set's part of the file, if it was measured."""
        stored = read_json(FILE).get(part)
        if stored is None:
            return None
        names, groups = np.unique(stored["groups"], return_inverse=True)
        _, objects = np.unique(stored["objects"], return_inverse=True)
        right = {
            run: np.unpackbits(np.frombuffer(bytes.fromhex(about["right"]), np.uint8))
            for run, about in stored["runs"].items()
        }
        return cls(
            groups,
            names.tolist(),
            objects,
            {run: bits[: len(groups)].astype(float) for run, bits in right.items()},
            {run: np.array(about["foreground"]) for run, about in stored["runs"].items()},
            stored["chosen"],
        )

    def seeds(self, arm: str) -> dict[str, str]:
        """Seed → run of an arm at its chosen setting; what was not trained has no seed."""
        if arm == "start":
            return {"": "start"}
        stem = "-".join([arm, *(f"{value:g}" for value in self.chosen[arm].values())])
        runs = {run.removeprefix(f"{stem}-"): run for run in self.right if run.startswith(stem)}
        return {seed: run for seed, run in sorted(runs.items()) if seed.isdigit()}

    def draws(self) -> np.ndarray:
        """(DRAWS, N) how often each image is drawn: objects with replacement, class by class."""
        random = np.random.default_rng(0)
        counts = np.zeros((DRAWS, self.objects.max() + 1))
        classes = np.array([name.split(" on ")[0] for name in self.group_names])[self.groups]
        for name in np.unique(classes):
            own = np.unique(self.objects[classes == name])
            picked = random.integers(len(own), size=(DRAWS, len(own)))
            for draw in range(DRAWS):
                counts[draw] += np.bincount(own[picked[draw]], minlength=counts.shape[1])
        return counts[:, self.objects]

    def by_group(self, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(draws, groups) accuracy of each group under weights (draws, N)."""
        members = np.eye(len(self.group_names))[self.groups]
        return ((weights * right) @ members) / np.maximum(weights @ members, 1e-9)


Measure = Callable[[Part, str, np.ndarray], np.ndarray]


def worst(part: Part, run: str, weights: np.ndarray) -> np.ndarray:
    """(draws,) accuracy of the worst group."""
    return part.by_group(part.right[run], weights).min(1)


def mean(part: Part, run: str, weights: np.ndarray) -> np.ndarray:
    """(draws,) mean accuracy of the groups."""
    return part.by_group(part.right[run], weights).mean(1)


def away(part: Part, run: str, weights: np.ndarray) -> np.ndarray:
    """(draws,) mean accuracy of the groups of which two images in forty were seen.

    Classes are at home on land and on water in turn, in the order of their ids.
    """
    classes = sorted({name.split(" on ")[0] for name in part.group_names})
    far = [f"{name} on {('water', 'land')[i % 2]}" for i, name in enumerate(classes)]
    columns = [part.group_names.index(name) for name in far]
    return part.by_group(part.right[run], weights)[:, columns].mean(1)


def foreground(part: Part, run: str, weights: np.ndarray) -> np.ndarray:
    """(draws,) mean share of relevance on the object, of the images where it was measured."""
    shown = weights[:, ::7]
    return (shown @ part.foreground[run]) / np.maximum(shown.sum(1), 1e-9)


MEASURES: dict[str, Measure] = {
    "worst group": worst,
    "mean": mean,
    "away from home": away,
    "on the object": foreground,
}


def told(values: np.ndarray, singly: list[float], *, sign: bool) -> str:
    """A value (the first) with the interval of its draws (the others) and that of each seed."""
    form = "{:+.1f}" if sign else "{:.1f}"
    low, high = percentile_interval(values[1:]) or (float("nan"),) * 2
    text = f"{form} [{form}, {form}]".format(*(100 * v for v in (values[0], low, high)))
    each = ", ".join(form.format(100 * value) for value in singly)
    return f"{text} ({each})" if len(singly) > 1 else text


def over_seeds(part: Part, arm: str, measure: Measure, weights: np.ndarray, against: str = ""):
    """Values (1 + draws,) of the mean over seeds, and each seed's own, less another arm's."""
    runs = part.seeds(arm)
    others = part.seeds(against) if against else {}
    values = []
    for seed in others or runs:
        run = runs.get(seed, runs.get(""))
        if run is None:
            continue
        value = measure(part, run, weights)
        values.append(value - measure(part, others[seed], weights) if against else value)
    return np.mean(values, axis=0), [float(value[0]) for value in values]


def arms_of(part: Part) -> list[str]:
    """Arms with a run, those that all others are compared with first."""
    rest = sorted(arm for arm in part.chosen if arm not in FIRST)
    return [arm for arm in (*FIRST, *rest) if part.seeds(arm)]


def tables(part: Part, *, chosen_here: bool) -> list[str]:
    """Accuracy and foreground share of each arm, and the differences from plain finetuning.

    Args:
        part: What was measured.
        chosen_here: The settings were chosen on these very images.
    """
    weights = np.concatenate([np.ones((1, len(part.groups))), part.draws()])
    images, objects = len(part.groups), part.objects.max() + 1
    lines = [
        f"On {images} test images ({objects} objects, each on land and on water) of the classes on",
        "which " + CHOSEN[chosen_here] + ", in per cent: mean over",
        "seeds with 95 % intervals over objects, each seed in parentheses.",
        "",
        f"| finetuning | needs beside labels | setting | {' | '.join(MEASURES)} |",
        "| --- " * (3 + len(MEASURES)) + "|",
    ]
    for arm in arms_of(part):
        setting = ", ".join(f"{k} {v:g}" for k, v in part.chosen.get(arm, {}).items()) or "-"
        cells = [
            told(*over_seeds(part, arm, measure, weights), sign=False)
            for measure in MEASURES.values()
        ]
        name, needs = NAMES.get(arm, arm), NEEDS.get(arm, f"masks, {CHOICE}")
        lines.append(f"| {name} | {needs} | {setting} | {' | '.join(cells)} |")
    lines += ["", "Difference from plain finetuning with the same seeds, in points:", ""]
    lines += [f"| finetuning | {' | '.join(MEASURES)} |", "| --- " * (1 + len(MEASURES)) + "|"]
    for arm in arms_of(part):
        if arm != "plain":
            cells = [
                told(*over_seeds(part, arm, measure, weights, "plain"), sign=True)
                for measure in MEASURES.values()
            ]
            lines.append(f"| {NAMES.get(arm, arm)} | {' | '.join(cells)} |")
    return lines


def search_lines(part: Part) -> list[str]:
    """Every setting that was tried, on the set on which they were chosen."""
    weights = np.ones((1, len(part.groups)))
    lines = [
        "Every setting tried, on the set on which they were chosen (one seed), in per cent:",
        "",
    ]
    lines += [f"| run | {' | '.join(MEASURES)} |", "| --- " * (1 + len(MEASURES)) + "|"]
    for run in sorted(part.right):
        cells = [f"{100 * m(part, run, weights)[0]:.1f}" for m in MEASURES.values()]
        lines.append(f"| {run} | {' | '.join(cells)} |")
    return lines


def page() -> None:
    """Write tables and figure."""
    report, search = Part.read("report"), Part.read("search")
    told_of = report or search
    lines = tables(told_of, chosen_here=report is None) if told_of else []
    lines += ["", *(search_lines(search) if search else [])]
    write_between(PAGE, MARKS, lines)
    if told_of:
        draw(told_of)
    print(f"{PAGE}\n{FIGURE}")


def draw(part: Part) -> None:
    """A row of dots with intervals for each arm: worst group and mean."""
    weights = np.concatenate([np.ones((1, len(part.groups))), part.draws()])
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    arms = arms_of(part)[::-1]
    for offset, (name, measure) in zip((0.12, -0.12), list(MEASURES.items())[:2]):
        for place, arm in enumerate(arms):
            values, _ = over_seeds(part, arm, measure, weights)
            low, high = percentile_interval(values[1:]) or (values[0], values[0])
            color = "C0" if measure is worst else "C1"
            spans = [[100 * (values[0] - low)], [100 * (high - values[0])]]
            axes.errorbar(
                [100 * values[0]], [place + offset], xerr=np.maximum(spans, 0), fmt="o",
                color=color, capsize=2, label=name if place == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(arms)), [NAMES.get(arm, arm) for arm in arms])
    axes.set_xlabel("accuracy in % (95 % interval over objects)")
    figure.legend(loc="outside upper center", frameon=False, ncols=2)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=150)


def gather_or_write(
    about: str | None, gather: Callable[[Path, Path], None], page: Callable[[], None]
) -> None:
    """The command line of a page: gather answers of runs, or write the page from those stored."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("what", choices=["gather", "page"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "gather":
        gather(arguments.data, arguments.runs)
    else:
        page()


if __name__ == "__main__":
    gather_or_write(__doc__, gather, page)
