"""Gather what `rotation.py` measured into one small file, and turn it into a page and a figure.

    python benchmarks/rotation_page.py gather --kind vit --out runs/vit
    python benchmarks/rotation_page.py gather --kind crossvit --out runs/crossvit
    python benchmarks/rotation_page.py page

`page` writes the tables of `docs/results/rotation.md`. A score of V4 is the mean over sessions of
the median over neurons; on the session with repeats only neurons of a reliability of at least 0.5
count. Intervals are over images (accuracies), over neurons within each session (V4; two arms on the
same neurons), or over images by the jackknife (IT, whose layer is chosen on the other species).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rotation_measure import IT, REPORTED_ON, unpack
from vitreous.brain.score import ceiled
from vitreous.evaluation.metrics import mean_interval
from vitreous.io import json_text, write_text
from vitreous.statistics import jackknife_interval, percentile_interval

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "results" / "rotation.json"
PAGE = ROOT / "docs" / "results" / "rotation.md"
FIGURE = ROOT / "docs" / "images" / "rotation.png"
MARKS = ("<!-- tables: benchmarks/rotation_page.py page -->", "<!-- end of the tables -->")
ARMS = (
    *("start", "plain", "rotation", "adversary", "both"),
    *("both_guidance", "both_swap", "both_guidance_swap"),
)
TITLES = {"vit": "ViT-S/14 at 112 px", "crossvit": "Small CrossViT at 64 px"}
ACCURACIES = ("clean", "turned", "corrupted", "other background", "PGD-50", "sequence")
SUMMED = ("clean", "turned", "corrupted", "other background", "PGD-50")
RELIABLE = 0.5
WITH_REPEATS = "210325"
RESAMPLES = 1000
Run = dict[str, Any]
Runs = dict[str, dict[int, Run]]
Interval = tuple[float, float] | None


def gather(kind: str, out: Path) -> None:
    """Put the measured files of one kind of model into the file."""
    stored = json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}
    stored[kind] = {}
    for file in sorted((out / "measured").glob("*.json")):
        stored[kind][file.stem] = json.loads(file.read_text("utf-8"))
    kinds = [
        f"{json_text(kind)}: {{\n" + ",\n".join(map(as_line, runs.items())) + "\n}"
        for kind, runs in stored.items()
    ]
    write_text(FILE, "{\n" + ",\n".join(kinds) + "\n}\n")
    print(f"{len(stored[kind])} runs: {FILE}")


def as_line(entry: tuple[str, Run]) -> str:
    """A run in one line of JSON."""
    return f"{json_text(entry[0])}: {json_text(entry[1])}"


def by_arm(stored: dict[str, Run]) -> Runs:
    """Arm → seed → run, in the order of the arms."""
    found: Runs = {arm: {} for arm in ARMS}
    for name, run in stored.items():
        arm, seed = name.rsplit("-", 1)
        found[arm][int(seed)] = run
    return {arm: runs for arm, runs in found.items() if runs}


def right(run: Run, name: str) -> np.ndarray | None:
    """(N,) which share of an accuracy's answers is right for each image; None if not measured."""
    answers, attacks = run.get("answers", {}), run.get("attacks", {})
    if name in ("turned", "corrupted"):
        parts = [unpack(text) for text in answers.get(name, {}).values()]
        return np.mean(parts, axis=0) if parts else None
    source = {**answers, **attacks, **run.get("shifted", {})}
    return unpack(source[name]).astype(float) if name in source else None


def over_seeds(runs: dict[int, Run], name: str) -> np.ndarray | None:
    """The mean over the seeds that have it."""
    found = [v for run in runs.values() if (v := right(run, name)) is not None]
    return np.mean(found, axis=0) if found else None


def neurons(run: Run, reliable: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Correlation of each neuron that counts, by session."""
    if "v4" not in run:
        return None
    sessions = run["v4"]["sessions"]
    return {s: np.array(sessions[s]["r"], float)[reliable[s]] for s in REPORTED_ON}


def reliable_neurons(runs: Runs) -> dict[str, np.ndarray]:
    """Which neurons count: on the session with repeats those that are reliable, else all."""
    some = next(r for by_seed in runs.values() for r in by_seed.values() if "v4" in r)
    kept = {}
    for session in REPORTED_ON:
        told = some["v4"]["sessions"][session]
        kept[session] = np.ones(len(told["r"]), bool)
        if "ceiling" in told:
            kept[session] = np.array(told["ceiling"], float) >= RELIABLE
    return kept


def v4_score(sessions: dict[str, np.ndarray]) -> float:
    """Mean over sessions of the median over neurons."""
    return float(np.mean([np.nanmedian(values) for values in sessions.values()]))


def mean_of_seeds(runs: dict[int, Run], reliable: dict[str, np.ndarray]) -> Any:
    """Each neuron's mean over seeds, by session; None where nothing was measured."""
    found = [n for run in runs.values() if (n := neurons(run, reliable)) is not None]
    if not found:
        return None
    return {s: np.mean([one[s] for one in found], axis=0) for s in REPORTED_ON}


def resampled(measure: Callable[[dict[str, np.ndarray]], float], sizes: dict[str, int]) -> Interval:
    """Bootstrap over neurons within sessions: the measure takes indices of neurons by session."""
    random = np.random.default_rng(0)
    drawn = [
        {s: random.integers(0, size, size) for s, size in sizes.items()} for _ in range(RESAMPLES)
    ]
    return percentile_interval([measure(indices) for indices in drawn])


def v4_interval(one: dict[str, np.ndarray], other: dict[str, np.ndarray] | None = None) -> Interval:
    """Of a score, or of the difference of two on the same neurons."""

    def measure(drawn: dict[str, np.ndarray]) -> float:
        value = v4_score({s: one[s][i] for s, i in drawn.items()})
        return value - (v4_score({s: other[s][i] for s, i in drawn.items()}) if other else 0.0)

    return resampled(measure, {s: len(values) for s, values in one.items()})


def it_values(runs: dict[int, Run], target: str) -> np.ndarray | None:
    """Likeness to a target and without each twentieth of the images, mean over the seeds.

    The layer is the best for the other species.
    """
    (other,) = set(IT) - {target}
    found = []
    for run in runs.values():
        if "it" in run:
            layers = run["it"][other]
            found.append(run["it"][target][max(layers, key=lambda name: layers[name][0])])
    return np.mean(found, axis=0) if found else None


def jackknifed(values: np.ndarray) -> Interval:
    """The interval of values (of all images, then without each twentieth)."""
    rest = iter(values[1:].tolist())
    return jackknife_interval(lambda _: next(rest), 92, float(values[0]))


def span(value: float, interval: Interval, digits: int = 1, sign: str = "") -> str:
    """A value with its interval."""
    told = f"{value:{sign}.{digits}f}"
    if interval is None:
        return told
    return f"{told} [{interval[0]:{sign}.{digits}f}, {interval[1]:{sign}.{digits}f}]"


def percent(values: np.ndarray | None, sign: str = "") -> str:
    """Mean over images with its interval, in per cent (or points, with a sign)."""
    if values is None:
        return "–"
    return span(100 * values.mean(), mean_interval(100 * values, top=100.0), 1, sign)


def accuracy_table(runs: Runs) -> list[str]:
    """Accuracies of each arm."""
    lines = [f"| arm | seeds | {' | '.join(ACCURACIES)} |", "| --- " * 8 + "|"]
    for arm, seeds in runs.items():
        cells = [percent(over_seeds(seeds, name)) for name in ACCURACIES]
        lines.append(f"| {title(arm)} | {len(seeds)} | {' | '.join(cells)} |")
    return lines


def brain_table(runs: Runs) -> list[str]:
    """V4 and IT of each arm."""
    reliable = reliable_neurons(runs)
    head = ["arm", "layer", "V4, r", *REPORTED_ON, f"r²/c of {WITH_REPEATS}", *IT]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for arm, seeds in runs.items():
        sessions = mean_of_seeds(seeds, reliable)
        if sessions is None:
            continue
        layers = {run["v4"]["layer"] for run in seeds.values() if "v4" in run}
        cells = [title(arm), ", ".join(sorted(layers))]
        cells.append(span(v4_score(sessions), v4_interval(sessions), 3))
        cells += [f"{np.nanmedian(values):.3f}" for values in sessions.values()]
        cells.append(f"{share_explained(seeds, sessions, reliable):.3f}")
        for target in IT:
            values = it_values(seeds, target)
            cells.append("–" if values is None else span(values[0], jackknifed(values), 3))
        lines.append(f"| {' | '.join(cells)} |")
    counts = ", ".join(f"{int(kept.sum())} of {session}" for session, kept in reliable.items())
    return [*lines, "", f"Neurons: {counts}."]


def share_explained(
    seeds: dict[int, Run], sessions: dict[str, np.ndarray], reliable: dict[str, np.ndarray]
) -> float:
    """r²/c on the session with repeats, of the reliable neurons."""
    run = next(r for r in seeds.values() if "v4" in r)
    told = np.array(run["v4"]["sessions"][WITH_REPEATS]["ceiling"], float)
    ceiling = float(np.median(told[reliable[WITH_REPEATS]]))
    return ceiled(float(np.nanmedian(sessions[WITH_REPEATS])), ceiling)


def difference_table(runs: Runs, head: str, pairs: list[tuple[str, str, str]]) -> list[str]:
    """What arms have over others, on the same images and neurons: (title, arm, other) a row."""
    reliable = reliable_neurons(runs)
    heads = [head, *ACCURACIES, "V4, r", *IT]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for told, arm, other in pairs:
        if arm in runs and other in runs:
            cells = [told, *differences(runs[arm], runs[other], reliable)]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def differences(one: dict[int, Run], other: dict[int, Run], reliable: dict[str, np.ndarray]) -> Any:
    """Cells of a row of `difference_table`: of the seeds that both have (start: each)."""
    cells = []
    for name in ACCURACIES:
        pair = (over_seeds(one, name), over_seeds(other, name))
        both = None if pair[0] is None or pair[1] is None else pair[0] - pair[1]
        cells.append("–" if both is None else difference(both))
    sessions = (mean_of_seeds(one, reliable), mean_of_seeds(other, reliable))
    if None in sessions:
        cells.append("–")
    else:
        value = v4_score(sessions[0]) - v4_score(sessions[1])
        cells.append(span(value, v4_interval(*sessions), 3, "+"))
    for target in IT:
        values = (it_values(one, target), it_values(other, target))
        if values[0] is None or values[1] is None:
            cells.append("–")
        else:
            cells.append(span(*_moved(values[0] - values[1]), 3, "+"))
    return cells


def _moved(values: np.ndarray) -> tuple[float, Interval]:
    return float(values[0]), jackknifed(values)


def difference(values: np.ndarray) -> str:
    """A mean difference over images in points."""
    return summed_difference([values])


def sums(runs: Runs) -> list[str]:
    """The mean of the accuracies that all arms have: what guidance and swap bring to the sum."""
    lines = [f"| arm | mean of {', '.join(SUMMED)} | less that of both |", "| --- " * 3 + "|"]
    totals: dict[str, list[np.ndarray]] = {}
    for arm, seeds in runs.items():
        parts = [part for name in SUMMED if (part := over_seeds(seeds, name)) is not None]
        if len(parts) == len(SUMMED):
            totals[arm] = parts
    for arm, parts in totals.items():
        gain = "–"
        if arm != "both" and "both" in totals:
            gain = summed_difference([part - own for part, own in zip(parts, totals["both"])])
        lines.append(f"| {title(arm)} | {100 * np.mean([p.mean() for p in parts]):.1f} | {gain} |")
    return lines


def summed_difference(parts: list[np.ndarray]) -> str:
    """The mean of several differences, in points; sets of one size have the same images."""
    random = np.random.default_rng(0)

    def drawn() -> float:
        chosen = {size: random.integers(0, size, size) for size in sorted({*map(len, parts)})}
        return float(np.mean([part[chosen[len(part)]].mean() for part in parts]))

    value = float(np.mean([part.mean() for part in parts]))
    return span(100 * value, percentile_interval([100 * drawn() for _ in range(RESAMPLES)]), 1, "+")


def title(arm: str) -> str:
    """How tables call an arm."""
    return arm.replace("_", " + ")


def section(kind: str, runs: Runs) -> list[str]:
    """All tables of one kind of model."""
    lines = [f"### {TITLES[kind]}", "", *accuracy_table(runs), ""]
    if any("v4" in run for seeds in runs.values() for run in seeds.values()):
        lines += [*brain_table(runs), ""]
        if "both" in runs:
            pairs = [(title(arm), "both", arm) for arm in ARMS[:4]]
            lines += [*difference_table(runs, "both less", pairs), ""]
    if "both" in runs and any(arm in runs for arm in ARMS[5:]):
        pairs = [(title(arm), arm, "both") for arm in ARMS[5:]]
        lines += [*difference_table(runs, "less both", pairs), "", *sums(runs), ""]
    return lines


def draw(stored: dict[str, Runs]) -> None:
    """V4 of each arm, with its interval, a panel for each kind of model."""
    kinds = {k: r for k, r in stored.items() if r}
    figure, panels = plt.subplots(
        1, len(kinds), figsize=(4.5 * len(kinds), 3.4), layout="constrained", squeeze=False
    )
    for axes, (kind, runs) in zip(panels[0], kinds.items()):
        reliable = reliable_neurons(runs)
        scores = {arm: mean_of_seeds(seeds, reliable) for arm, seeds in runs.items()}
        scores = {arm: sessions for arm, sessions in scores.items() if sessions is not None}
        for place, sessions in enumerate(scores.values()):
            ends = v4_interval(sessions)
            if ends is not None:
                axes.plot([place, place], ends, color="C0")
            axes.plot(place, v4_score(sessions), "o", color="C0")
        axes.set_xticks(range(len(scores)), [title(a).replace(" + ", "\n+ ") for a in scores])
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(TITLES[kind], fontsize=9)
        axes.set_ylabel("V4, r (95 % interval over neurons)", fontsize=8)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=150)


def page() -> None:
    """Write tables and figure."""
    stored = {k: by_arm(runs) for k, runs in json.loads(FILE.read_text("utf-8")).items()}
    lines = [line for kind, runs in stored.items() if runs for line in section(kind, runs)]
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    if any(len(runs) > 1 for runs in stored.values()):
        draw(stored)
        lines = ["![V4 of each arm](../images/rotation.png)", "", *lines]
        print(FIGURE)
    PAGE.write_text("\n".join([before + MARKS[0], "", *lines, MARKS[1] + after]), encoding="utf-8")
    print(PAGE)


def main() -> None:
    """Gather, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["gather", "page"])
    parser.add_argument("--kind", choices=TITLES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.what == "gather":
        gather(options.kind, options.out)
    else:
        page()


if __name__ == "__main__":
    main()
