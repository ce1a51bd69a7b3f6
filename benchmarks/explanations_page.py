"""The page of `explanations.py`, written from `results.json` alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitreous.evaluation.suites import load_suite
from vitreous.io import read_json
from vitreous.results import Record, Results

PHOTOGRAPHS, SCENES = "photographs-with-boxes", "scenes-decided-by-a-tag"
COLUMNS = (
    ("positive_area", "↓"),
    ("negative_area", "↑"),
    ("pixel_flipping", "↓"),
    ("road", "↓"),
    ("infidelity", "↓"),
    ("pointing_game", "↑"),
    ("foreground_share", "↑"),
    ("rank_accuracy", "↑"),
    ("roc_area", "↑"),
    ("max_sensitivity", "↓"),
    ("attacked_correlation", "↑"),
    ("parameter_randomization", "↓"),
    ("random_logit", "↓"),
    ("gini", "↑"),
    ("entropy", "↓"),
    ("seconds_per_image", "↓"),
)
DEFAULT = "gradient_attention"
GROUPS = {"Faithfulness": COLUMNS[:5], "Localization": COLUMNS[5:9], "The rest": COLUMNS[9:]}


def measured(results: Results, metric: str, dataset: str = PHOTOGRAPHS) -> dict[str, Record]:
    """Method → its record of a metric on the most images."""
    found: dict[str, Record] = {}
    for record in sorted(results.find(dataset=dataset, metric=metric), key=lambda r: r.n or 0):
        found[str(record.settings["method"])] = record
    return found


def table(
    results: Results, columns: tuple[tuple[str, str], ...], dataset: str = PHOTOGRAPHS
) -> list[str]:
    """A table of methods × metrics with half the width of each interval, and of images."""
    methods = load_suite("explanations").methods
    lines = ["| method | " + " | ".join(f"{c.replace('_', ' ')} {a}" for c, a in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for method in methods:
        cells = []
        for metric, _ in columns:
            record = measured(results, metric, dataset).get(method)
            cells.append(cell(record.value, record.ci95) if record else "–")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    every = [measured(results, metric, dataset).values() for metric, _ in columns]
    counts = [max((r.n or 0 for r in records), default=0) for records in every]
    return [*lines, "| images | " + " | ".join(map(str, counts)) + " |"]


def cell(value: float, interval: tuple[float, float] | None) -> str:
    """A number with half the width of its interval."""
    digits = 1 if abs(value) >= 10 else 3
    half = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.{digits}f}"
    return f"{value:.{digits}f}{half}"


def best(
    results: Results, metric: str, arrow: str, dataset: str = PHOTOGRAPHS
) -> tuple[str, list[str]]:
    """The method with the best value of a metric, and those whose interval reaches it."""
    records = list(measured(results, metric, dataset).values())
    sign = 1 if arrow == "↑" else -1
    first = max(records, key=lambda r: sign * r.value)
    edge = first.ci95[0] if sign > 0 else first.ci95[1]
    near = [
        r.settings["method"]
        for r in records
        if r is not first and (r.ci95[1] >= edge if sign > 0 else r.ci95[0] <= edge)
    ]
    return first.settings["method"], near


def best_line(results: Results, metric: str, arrow: str) -> str:
    """The best of a metric in one line."""
    first, near = best(results, metric, arrow)
    also = f" (intervals overlap: {', '.join(f'`{n}`' for n in near)})" if near else ""
    return f"- {metric.replace('_', ' ')} {arrow}: `{first}`{also}"


def reached(results: Results) -> dict[str, int]:
    """Method → in how many of the tables' metrics its interval reaches the best, most first."""
    counts = dict.fromkeys(load_suite("explanations").methods, 0)
    for first, near in (best(results, *column) for column in COLUMNS[:-1]):
        for method in (first, *near):
            counts[method] += 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def mean_ranks(results: Results, columns: tuple[tuple[str, str], ...]) -> dict[str, float]:
    """Method → its mean place among all by metrics (1: the best in each), best first."""
    ranks: dict[str, list[int]] = {m: [] for m in load_suite("explanations").methods}
    for metric, arrow in columns:
        records = measured(results, metric).values()
        ordered = sorted(records, key=lambda r: r.value, reverse=arrow == "↑")
        for place, record in enumerate(ordered):
            ranks[record.settings["method"]].append(place + 1)
    means = {method: float(np.mean(places)) for method, places in ranks.items()}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def value(results: Results, metric: str) -> str:
    """The default method's value of a metric."""
    record = measured(results, metric)[DEFAULT]
    return cell(record.value, record.ci95)


def defaults(results: Results) -> list[str]:
    """Which method is the default, and why."""
    ranks = mean_ranks(results, (*GROUPS["Faithfulness"], *GROUPS["Localization"]))
    listed = ", ".join(f"`{method}` {rank:.1f}" for method, rank in ranks.items())
    place = [*ranks].index(DEFAULT) + 1
    return [
        "## The default, and why",
        "",
        f"`{DEFAULT}` is the default. Mean place among the nine methods by the nine metrics of "
        f"faithfulness and localization: {listed} (place {place} of {len(ranks)}; intervals of "
        "many neighbours overlap, and places do not say by how much). Two reasons are no numbers: "
        "it holds for every family that has a rule (CrossViT, Hugging Face, torchvision, "
        "open_clip, heads that pool by attention), and its maps can be a loss, so what is trained "
        "is what is shown. `transformer_attribution` knows timm's plain Vision Transformers alone "
        "and cannot be a loss.",
        "",
        "This order was chosen after the numbers had been seen. Counted instead by the metrics of "
        "all tables in which a method's interval reaches the best, which favours wide intervals: "
        + ", ".join(f"`{method}` {count}" for method, count in reached(results).items())
        + ".",
        "",
        f"What it is not good at: its map of another class correlates with the first by "
        f"{value(results, 'random_logit')}, and that of a random model by "
        f"{value(results, 'parameter_randomization')}. To tell two classes apart, look at a method "
        "with a low random logit, or explain the difference of the two (`--target 'A - B'`).",
        "",
    ]


def speeds(file: Path) -> list[str]:
    """Seconds of each metric here and in Quantus, as `explanation_metrics.py` measured them."""
    measured = read_json(file)
    settings = measured["settings"]
    lines = [
        "## Beside Quantus",
        "",
        f"Quantus 0.6.0 on the same {settings['images']} maps of {settings['side']} px, network "
        "and thread, in seconds of the processor (`python benchmarks/explanation_metrics.py "
        f"--images {settings['images']} --side {settings['side']} --repeats 7`; nothing else ran, "
        "both took turns, the least of each is told). ROAD is mostly the linear systems that both "
        "solve: here by a banded Cholesky factor, there by a general sparse one.",
        "",
        "| metric | here, s | Quantus, s | times | largest relative difference |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in measured["metrics"].items():
        seconds = f"{row['here']:.4f} | {row['quantus']:.4f} | {row['ratio']:.1f}"
        lines.append(f"| {name.replace('_', ' ')} | {seconds} | {row['difference']:.0e} |")
    return [*lines, ""]


def scenes(results: Results) -> list[str]:
    """The tables of the scenes whose truth is known."""
    # The areas are of accuracy on the label, which these scenes were chosen to miss.
    shown = (*GROUPS["Faithfulness"][2:], *GROUPS["Localization"])
    others = GROUPS["The rest"][:-1]
    firsts = [best(results, *column, SCENES) for column in GROUPS["Localization"]]
    named = ", ".join(
        f"{metric.replace('_', ' ')} `{first}`"
        for (metric, _), (first, _) in zip(GROUPS["Localization"], firsts)
    )
    return [
        "## Where the truth is known",
        "",
        "Drawn scenes of 48 px and the demo's shortcut model (a small ViT that has come to rely on "
        "a coloured tag in the background): those that it puts into the class of their tag, and "
        "into another once the tag is gone. What it used is the tag, and the mask is the tag's "
        "pixels: a map that does not show it is wrong. Faithfulness and localization:",
        "",
        *table(results, shown, SCENES),
        "",
        *table(results, others, SCENES),
        "",
        f"Best at the tag: {named}. {_pointing(results)}",
        "",
        "Measured by `python benchmarks/explanations.py --scenes --model shortcut/ --out "
        "explanations/ --limit 513`, after `vitreous train demo/shortcut --model.name "
        "src/vitreous/demo/pretrained --out shortcut/`.",
        "",
    ]


def _pointing(results: Results) -> str:
    """Which methods put their largest value on the tag, mostly, and which mostly do not."""
    records = measured(results, "pointing_game", SCENES)
    parts = [
        ", ".join(f"`{m}` {r.value:.0%}" for m, r in records.items() if (r.value > 0.5) == right)
        for right in (True, False)
    ]
    return (
        f"The largest value of a map lies on the tag in most scenes by {parts[0]}; in the minority "
        f"by {parts[1]}: maps of those would not have told that this model reads a tag."
    )


def write_page(out: Path, page: Path, speed: Path | None = None) -> None:
    """Write the page from results.json, and what was measured beside Quantus if it is given."""
    results = Results.read(out)
    about = measured(results, "rank_accuracy")[DEFAULT].provenance
    lines = [
        "# Which relevance map can be believed",
        "",
        f"Nine methods on {about.model}, a ViT-S/14 at 112 px with 50 classes of Tiny-ImageNet: "
        "validation images with a box of 10 to 70 % of the image, evenly spread, their boxes as "
        "masks, the model's own prediction explained. Mean ± half of the 95 % bootstrap interval "
        "over images, how many below each column. ↑ high is good, ↓ low is good. A later call of "
        "`python benchmarks/explanations.py` with a larger `--limit` only adds images. Passes over "
        "images with pixels removed, flipped or imputed, which no map is made of, are in bfloat16 "
        "where the processor has it; maps and all else are float32.",
        "",
    ]
    for title, columns in GROUPS.items():
        lines += [f"## {title}", "", *table(results, columns), ""]
    lines += [NOTES, "", *scenes(results), *defaults(results)]
    lines += speeds(speed) if speed is not None else []
    lines += ["## Best by each metric", ""]
    lines += [best_line(results, *column) for column in COLUMNS[:-1]]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


NOTES = """\
Positive and negative area are in percent: accuracy as the most, or the least, relevant pixels go.
ROAD is how often the prediction stays when the most relevant pixels are imputed. Infidelity is
the share of the squared change of the probability, as black squares come, that the best multiple
of a map leaves unexplained (1: all of it). Max-sensitivity is under uniform noise of 0.02.
Attacked correlation is Spearman's, with the map of the same class after PGD (10 steps, 1/255).
Parameter and logit randomization are Spearman's correlations with the map of a model whose layers
are random from the head down, or of another class: a map that stays the same (near 1) does not
show what the model does, and methods that do not look at the class (rollout, raw attention) are
at 1 for another class by definition. Gini and entropy say how few pixels a map is about, not
whether they are right. A box is no outline: localization has a ceiling below 1. Seconds are the
processor's, of one core that other work shared, to compare methods with each other and no more."""
