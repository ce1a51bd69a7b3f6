"""Work for a long time, and watch memory, open files and threads: they must stay flat.

    PYTHONPATH=tests python -m faults.soak --minutes 60 --out soak/

One process goes round train, evaluate, attack, explain and report on small inputs, and fills the
page of the app as for visitors. After each round, resident memory, open files and threads are noted
in `rounds.csv` and drawn in `rounds.png`; at the end, the slope over the second half is told.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from faults.bench import OUT, call, make_workplace
from vitreous.app.answers import fill_outputs
from vitreous.models import load_model

ROUND = (
    "train recipe.yaml --quiet --out out/run",
    "evaluate out/run --data images --masks masks --workers 0 --quiet",
    "attack out/run --data images --steps 2 --epsilon 1/255 --workers 0 --quiet",
    "explain images --model out/run --quiet --out out/maps",
    "report out/run --out out/card.html",
)
COLUMNS = ("seconds", "round", "resident_mb", "open_files", "threads")


def sample(begun: float, number: int) -> dict[str, float]:
    """Resident memory (MB), open files and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "round": number,
        "resident_mb": round(pages * resource.getpagesize() / 2**20, 1),
        "open_files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
    }


def work(root: Path, visits: int) -> None:
    """One round: the commands, then visitors of the page."""
    shutil.rmtree(root / OUT, ignore_errors=True)
    for command in ROUND:
        outcome = call(command.split(), root)
        if outcome.status:
            raise SystemExit(f"{command}: {outcome.line}")
    visit(root, visits)


def visit(root: Path, visits: int) -> None:
    """Ask the page for explanations, right and wrong ones, as `fill_outputs` gets them."""
    import gradio

    models = {"one": load_model(str(root / "model"))}
    picture = str(root / "images" / "class_0" / "0.png")
    for number in range(visits):
        file = picture if number % 3 else str(root / "recipe.yaml")
        fill_outputs(gradio, models, [file, 0, ["one"], ["rollout"], 15 * number, 1, 2, {}])


def slopes(rows: list[dict[str, float]]) -> dict[str, float]:
    """Change of each figure in an hour, over the second half, by least squares."""
    half = rows[len(rows) // 2 :]
    hours = np.array([row["seconds"] for row in half]) / 3600
    return {
        name: float(np.polyfit(hours, [row[name] for row in half], 1)[0]) for name in COLUMNS[2:]
    }


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Draw the figures over time."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    for axes, name in zip(figure.subplots(3, 1, sharex=True), COLUMNS[2:]):
        axes.plot([row["seconds"] / 60 for row in rows], [row[name] for row in rows])
        axes.set_ylabel(name.replace("_", " "))
        axes.set_ylim(bottom=0)
    figure.axes[-1].set_xlabel("minutes")
    figure.savefig(path)


def run() -> int:
    """Soak; returns 1 where something grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--visits", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    root = make_workplace(asked.out.resolve() / "place")
    begun, rows = time.monotonic(), []
    with (asked.out / "rounds.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        while time.monotonic() - begun < 60 * asked.minutes or len(rows) < 4:
            work(root, asked.visits)
            gc.collect()
            rows.append(sample(begun, len(rows) + 1))
            table.writerow(rows[-1])
            file.flush()
    draw(rows, asked.out / "rounds.png")
    changes = slopes(rows)
    told = ", ".join(f"{name} {value:+.1f}" for name, value in changes.items())
    print(f"{len(rows)} rounds in {rows[-1]['seconds'] / 60:.1f} minutes; an hour's change: {told}")
    grown = changes["resident_mb"] > 0.1 * rows[len(rows) // 2]["resident_mb"]
    return int(grown or rows[-1]["open_files"] > rows[len(rows) // 2]["open_files"] + 2)


if __name__ == "__main__":
    sys.exit(run())
