"""Few images of half the classes, masks of three makings, and what the models look at.

    python benchmarks/evidence/guidance_page.py gather --data evidence/data --runs evidence/few
    python benchmarks/evidence/guidance_page.py page

`gather` keeps in `docs/results/guidance.json` which test images each run of `run.py` has right,
which classes were guided, how masks agree, and what was measured of explanations image by image.
`page` chooses and reports as `collect.py` does (learning rates with seed 0 on the first half of the
classes, all numbers on the other half), guided classes apart from those of which no image was seen.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from collect import ROOT, Answers, arms, by_seed, choose, over_seeds, read, right_of, several
from groups_page import gather_or_write
from pages import write_between

from vitreous.io import read_json, write_text

FILE = ROOT / "docs" / "results" / "guidance.json"
PAGE = ROOT / "docs" / "results" / "index.md"
FIGURE = ROOT / "docs" / "images" / "guidance.png"
MARKS = ("<!-- tables: benchmarks/evidence/guidance_page.py page -->", "<!-- end of guidance -->")
SETS = ("original", "same_class", "random_class", "other_place")
MAKINGS = {"train_16": "box", "train_16_sam": "SAM", "train_16_tokencut": "TokenCut"}
LOOKS = {
    "share": "relevance on the object",
    "positive": "area, most relevant removed first",
    "negative": "area, least relevant removed first",
}
Runs = dict[str, Answers]
Seeds = dict[str, Answers]
Looks = dict[str, dict[str, Any]]


def gather(data: Path, runs: Path) -> None:
    """Write the file."""
    measured = runs / "measured"
    classes, right = right_of(measured)
    with (data / "train_3.csv").open(encoding="utf-8", newline="") as file:
        guided = sorted({row["label"] for row in csv.DictReader(file)})
    looks = {}
    for file in sorted(measured.rglob("*.json")):
        if "curves" in (table := read_json(file)):
            looks[str(file.relative_to(measured).with_suffix(""))] = table
    masks = read_json(data / "masks.json") if (data / "masks.json").is_file() else {}
    stored = {"classes": classes, "guided": guided, "runs": right, "masks": masks, "looks": looks}
    write_text(FILE, json.dumps(stored, indent=0) + "\n")
    print(f"{len(right)} runs of {len(classes)} images, {len(looks)} explained: {FILE}")


def of_list(runs: Runs, images: str) -> Runs:
    """The runs from one list of images, and the start."""
    return {run: sets for run, sets in runs.items() if run.split("/")[0] in ("start", images)}


def points(values: np.ndarray, scale: float = 100.0) -> str:
    """A mean difference (images,) with its interval."""
    low, high = several(values)
    return f"{scale * values.mean():+.1f} [{scale * low:+.1f}, {scale * high:+.1f}]"


def gained(seeds: Seeds, plain: Seeds, name: str, images: np.ndarray) -> np.ndarray:
    """(seeds, images) what an arm has right and plain finetuning of the same seed has not."""
    shared = [seed for seed in seeds if seed in plain]
    return np.array([seeds[s][name][images].astype(float) - plain[s][name][images] for s in shared])


def told(each: np.ndarray) -> str:
    """A difference over seeds and images, its interval over images, and that of each seed."""
    singly = ", ".join(f"{100 * value:+.1f}" for value in each.mean(1))
    return points(each.mean(0)) + (f" ({singly})" if len(each) > 1 else "")


def picked(runs: Runs, chosen_on: np.ndarray) -> tuple[dict[str, Seeds], dict[str, str]]:
    """Each arm's runs at the rate that did best with seed 0 on some images, and that rate."""
    rates = {arm: choose(runs, arm, chosen_on) for arm in arms(runs)}
    shown = {arm: by_seed(runs, arm, rate) for arm, (rate, _) in rates.items()}
    none = dict.fromkeys(shown["plain"], runs["start"])
    told_rates = {arm: f"{rate} of {tried}" for arm, (rate, tried) in rates.items()}
    return {"none": none, **shown}, {"none": "-", **told_rates}


def measured_sets(runs: Runs) -> list[str]:
    """Test sets that every run was measured on."""
    return [name for name in SETS if all(name in sets for sets in runs.values())]


def few_lines(runs: Runs, chosen_on: np.ndarray, guided: np.ndarray) -> Iterator[str]:
    """Tables of the arms from three images: guided classes, and those never guided."""
    few = of_list(runs, "train_3")
    shown, rates = picked(few, chosen_on)
    sets = measured_sets(few)
    for title, images in (
        ("**Guided classes**", ~chosen_on & guided),
        ("**Classes never guided**", ~chosen_on & ~guided),
    ):
        yield from arm_lines(title, images, shown, ("rate", rates), sets)
    yield from every_run(few, sets, guided)


def arm_lines(
    title: str,
    images: np.ndarray,
    shown: dict[str, Seeds],
    about: tuple[str, dict[str, str]],
    sets: Sequence[str],
) -> Iterator[str]:
    """A table of arms on some images: accuracy, and the difference from plain finetuning."""
    yield f"{title} ({images.sum()} images): accuracy in per cent, then the difference from"
    yield "plain finetuning with the same seeds, in points."
    yield ""
    yield f"| finetuning | {about[0]} | seeds | {' | '.join(n.replace('_', ' ') for n in sets)} |"
    yield "| --- " * (3 + len(sets)) + "|"
    for arm, seeds in shown.items():
        cells = [f"{100 * over_seeds(seeds, n, images).mean():.1f}" for n in sets]
        if arm != "plain":
            own = [told(gained(seeds, shown["plain"], n, images)) for n in sets]
            cells = [f"{a}: {b}" for a, b in zip(cells, own)]
        count = "-" if arm == "none" else str(len(seeds))
        yield f"| {arm.replace('_', ' ')} | {about[1][arm]} | {count} | {' | '.join(cells)} |"
    yield ""


def every_run(runs: Runs, sets: list[str], guided: np.ndarray) -> Iterator[str]:
    """Every run, guided classes / the others, all images."""
    yield f"Every run, all {len(guided)} images, guided classes / the others:"
    yield ""
    yield f"| run | {' | '.join(n.replace('_', ' ') for n in sets)} |"
    yield "| --- " * (1 + len(sets)) + "|"
    for run, right in runs.items():
        pairs = [(right[n][guided].mean(), right[n][~guided].mean()) for n in sets]
        cells = [f"{100 * a:.1f} / {100 * b:.1f}" for a, b in pairs]
        yield f"| {Path(run).name.replace('_', ' ')} | {' | '.join(cells)} |"
    yield ""


def making_lines(runs: Runs, report: np.ndarray, masks: dict[str, Any]) -> Iterator[str]:
    """Guidance and swap with masks of several makings, from the same images."""
    lists = [title for title in MAKINGS if any(run.startswith(f"{title}/") for run in runs)]
    many = [run for run in runs if run.split("/")[0] in lists]
    if not many:
        return
    sets = measured_sets({run: runs[run] for run in [*many, "start"]})
    plain = by_any_rate(of_list(runs, "train_16"), "plain")
    yield f"On {report.sum()} images of the classes on which no rate was chosen: difference from"
    yield "plain finetuning with the same seeds, in points."
    yield ""
    titles = " | ".join(n.replace("_", " ") for n in sets)
    yield f"| finetuning | masks | with a mask | IoU with SAM's | {titles} |"
    yield "| --- " * (4 + len(sets)) + "|"
    for arm in ("guidance", "swap"):
        for title in lists:
            seeds = by_any_rate(of_list(runs, title), arm)
            if not seeds:
                continue
            about = masks.get(title, {"masked": 0, "images": 0, "sam": float("nan")})
            cells = [told(gained(seeds, plain, n, report)) for n in sets]
            share = f"{about['masked']} of {about['images']} | {about['sam']:.2f}"
            yield f"| {arm} | {MAKINGS[title]} | {share} | {' | '.join(cells)} |"
    yield ""
    yield from less_boxes(runs, lists, sets, report)


def less_boxes(runs: Runs, lists: list[str], sets: list[str], report: np.ndarray) -> Iterator[str]:
    """What each making of masks gains over boxes: the same arm, seeds and images."""
    boxes = next(title for title, making in MAKINGS.items() if making == "box")
    pairs = {
        f"{arm} | {MAKINGS[title]}": (
            by_any_rate(of_list(runs, title), arm),
            by_any_rate(of_list(runs, boxes), arm),
        )
        for arm in ("guidance", "swap")
        for title in lists
        if title != boxes
    }
    pairs = {row: pair for row, pair in pairs.items() if set(pair[0]) & set(pair[1])}
    if not pairs:
        return
    yield "The same less the same arm with boxes:"
    yield ""
    yield f"| finetuning | masks | {' | '.join(n.replace('_', ' ') for n in sets)} |"
    yield "| --- " * (2 + len(sets)) + "|"
    for row, (own, with_boxes) in pairs.items():
        cells = [told(gained(own, with_boxes, n, report)) for n in sets]
        yield f"| {row} | {' | '.join(cells)} |"
    yield ""


def by_any_rate(runs: Runs, arm: str) -> Seeds:
    """The runs of an arm of which there is one rate, by their seed."""
    return {
        run.rsplit("-", 1)[1]: sets
        for run, sets in runs.items()
        if run != "start" and Path(run).name.rsplit("-", 3)[0] == arm
    }


def of_classes(looks: Looks, classes: Collection[str]) -> Looks:
    """What was measured of the images of some classes."""
    kept = {}
    for run, table in looks.items():
        own = [place for place, file in enumerate(table["files"]) if file.split("/")[0] in classes]
        kept[run] = {look: [table[look][place] for place in own] for look in LOOKS}
    return kept


def look_lines(looks: Looks, classes: Collection[str]) -> Iterator[str]:
    """What models look at: each, and its difference from plain finetuning of the same seed.

    Args:
        looks: What was measured of explanations, by run.
        classes: Classes that are told of: those on which no rate was chosen.
    """
    if "start" not in looks:
        return
    looks = of_classes(looks, classes)
    count = len(looks["start"]["share"])
    yield f"Of {count} originals of the classes on which no rate was chosen, relevance of the"
    yield "predicted class; differences are from plain finetuning with the same seeds on the same"
    yield "images, in points."
    yield ""
    yield f"| model | seeds | {' | '.join(LOOKS.values())} |"
    yield "| --- | --- | --- | --- | --- |"
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for run, table in looks.items():
        if run != "start":
            images, name = run.split("/")
            arm, seed = name.rsplit("-", 3)[0], name.rsplit("-", 1)[1]
            key = arm if arm == "plain" else f"{arm}, masks: {MAKINGS.get(images, 'box')}"
            groups.setdefault(key, {})[seed] = table
    plain = groups.get("plain", {})
    groups = {"none": dict.fromkeys(plain or ["0"], looks["start"]), **groups}
    for name, seeds in groups.items():
        cells = []
        for look in LOOKS:
            scale = 100.0 if look == "share" else 1.0
            each = np.array([table[look] for table in seeds.values()]) * scale
            cell = f"{each.mean():.1f}"
            shared = [seed for seed in seeds if seed in plain]
            if name != "plain" and shared:
                less = [np.subtract(seeds[s][look], plain[s][look]) * scale / 100 for s in shared]
                cell += f": {told(np.array(less))}"
            cells.append(cell)
        trained = "-" if name == "none" else str(len(seeds))
        yield f"| {name.replace('_', ' ')} | {trained} | {' | '.join(cells)} |"
    yield ""


def page() -> None:
    """Write tables and figure."""
    classes, runs = read(FILE)
    stored = read_json(FILE)
    names = np.unique(classes)
    chosen_on = np.isin(classes, names[: len(names) // 2])
    guided = np.isin(classes, stored["guided"])
    late = {str(name) for name in names[len(names) // 2 :]}
    parts = {
        "### From three images of every second class": few_lines(runs, chosen_on, guided),
        "### Masks of three makings": making_lines(runs, ~chosen_on, stored["masks"]),
        "### What the models look at": look_lines(stored["looks"], late),
    }
    lines = []
    for title, made in parts.items():
        if part := list(made):
            lines += [title, "", *part]
    write_between(PAGE, MARKS, lines)
    draw(runs, chosen_on, guided)
    print(f"{PAGE}\n{FIGURE}")


def draw(runs: Runs, chosen_on: np.ndarray, guided: np.ndarray) -> None:
    """Dots with intervals: what each arm gains over plain finetuning from three images."""
    few = of_list(runs, "train_3")
    shown, _ = picked(few, chosen_on)
    names = [arm for arm in shown if arm != "plain"][::-1]
    sets = [name for name in measured_sets(few) if name != "same_class"]
    figure, axes = plt.subplots(1, len(sets), figsize=(9, 3), sharey=True, layout="constrained")
    for plot, name in zip(axes, sets):
        for title, images, offset in (
            ("guided classes", ~chosen_on & guided, 0.12),
            ("never guided", ~chosen_on & ~guided, -0.12),
        ):
            for place, arm in enumerate(names):
                values = gained(shown[arm], shown["plain"], name, images).mean(0)
                low, high = several(values)
                # Rounding may put a mean of nothing beside the interval's end.
                reach = np.maximum(0, [[values.mean() - low], [high - values.mean()]])
                plot.errorbar(
                    [100 * values.mean()], [place + offset], xerr=100 * reach,
                    fmt="o", capsize=2, color="C0" if offset > 0 else "C1",
                    label=title if place == 0 and plot is axes[0] else None,
                )  # fmt: skip
        plot.axvline(0, color="gray", linewidth=0.8)
        plot.set_title(name.replace("_", " "), fontsize=10)
        plot.set_yticks(range(len(names)), [arm.replace("_", " ") for arm in names])
    figure.supxlabel("points above plain finetuning (95 % interval over images)", fontsize=9)
    figure.legend(loc="outside upper center", frameon=False, ncols=2)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    gather_or_write(__doc__, gather, page)
