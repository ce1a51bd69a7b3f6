"""Work for a long time, and watch memory, open files and threads: they must stay flat.

    PYTHONPATH=tests python -m faults.soak --minutes 60 --out soak/

One process goes round train, evaluate, attack, explain and report on small inputs; another serves
the page, and visitors call it over the network, four at a time. After each round, resident memory,
open files and threads of both are noted in `rounds.csv` and drawn in `rounds.png`; at the end, the
slopes over the second half are told.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from faults.bench import OUT, call, make_workplace
from faults.visitors import load, served

ROUND = (
    "train recipe.yaml --quiet --out out/run",
    "evaluate out/run --data images --masks masks --workers 0 --quiet",
    "attack out/run --data images --steps 2 --epsilon 1/255 --workers 0 --quiet",
    "explain images --model out/run --quiet --out out/maps",
    "report out/run --out out/card.html",
)
FIGURES = ("resident_mb", "open_files", "threads")
COLUMNS = ("seconds", "round", *FIGURES, *(f"page_{name}" for name in FIGURES))
MOST_GROWTH = 0.1
"""Of memory in an hour, as a share."""


def sample(process: int, prefix: str = "") -> dict[str, float]:
    """Resident memory (MB), open files and threads of a process."""
    about = Path(f"/proc/{process}")
    pages = int((about / "statm").read_text(encoding="utf-8").split()[1])
    counted = (
        round(pages * resource.getpagesize() / 2**20, 1),
        len(os.listdir(about / "fd")),
        len(os.listdir(about / "task")),
    )
    return {f"{prefix}{name}": value for name, value in zip(FIGURES, counted)}


def work(root: Path) -> None:
    """One round of the commands."""
    shutil.rmtree(root / OUT, ignore_errors=True)
    for command in ROUND:
        outcome = call(command.split(), root)
        if outcome.status:
            raise SystemExit(f"{command}: {outcome.line}")


def slopes(rows: list[dict[str, float]]) -> dict[str, float]:
    """Change of each figure in an hour, over the second half, by least squares."""
    half = rows[len(rows) // 2 :]
    hours = np.array([row["seconds"] for row in half]) / 3600
    return {
        name: float(np.polyfit(hours, [row[name] for row in half], 1)[0]) for name in COLUMNS[2:]
    }


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Draw the figures over time, those of the page beside those of the commands."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(3, 2, sharex=True).T.ravel()
    for axes, name in zip(panels, COLUMNS[2:], strict=True):
        axes.plot([row["seconds"] / 60 for row in rows], [row[name] for row in rows])
        axes.set_ylabel(name.replace("_", " "))
        axes.set_ylim(bottom=0)
    figure.supxlabel("minutes")
    figure.savefig(path)


def rounds(root: Path, out: Path, minutes: float, visits: int) -> list[dict[str, float]]:
    """Go round until the time is over; each round is a row of the table."""
    begun, rows = time.monotonic(), []
    with (
        (out / "rounds.csv").open("w", newline="") as file,
        (out / "page.log").open("w") as log,
        served(root, log, "--port", "7990") as (page, url),
    ):
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        while time.monotonic() - begun < 60 * minutes or len(rows) < 4:
            work(root)
            load(url, root, visits)
            gc.collect()
            seconds = round(time.monotonic() - begun, 1)
            row = {"seconds": seconds, "round": len(rows) + 1}
            rows.append(row | sample(os.getpid()) | sample(page.pid, "page_"))
            table.writerow(rows[-1])
            file.flush()
    return rows


def grown(rows: list[dict[str, float]]) -> list[str]:
    """The figures that did not stay flat over the second half."""
    changes, middle, last = slopes(rows), rows[len(rows) // 2], rows[-1]
    return [
        name
        for name in COLUMNS[2:]
        if (name.endswith("_mb") and changes[name] > MOST_GROWTH * middle[name])
        or (not name.endswith("_mb") and last[name] > middle[name] + 2)
    ]


def run() -> int:
    """Soak; returns 1 where something grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--visits", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    root = make_workplace(asked.out.resolve() / "place")
    rows = rounds(root, asked.out, asked.minutes, asked.visits)
    draw(rows, asked.out / "rounds.png")
    told = ", ".join(f"{name} {value:+.1f}" for name, value in slopes(rows).items())
    print(f"{len(rows)} rounds in {rows[-1]['seconds'] / 60:.1f} minutes; an hour's change: {told}")
    if said := "Traceback" in (asked.out / "page.log").read_text(encoding="utf-8"):
        print("a stack trace in the log of the page")
    if more := grown(rows):
        print(f"grown: {', '.join(more)}")
    return int(bool(more) or said)


if __name__ == "__main__":
    sys.exit(run())
