"""The search behind the demo's recipes: what guidance does, setting by setting.

    python benchmarks/demo.py --out vitreous-demo
    python benchmarks/demo.py --out vitreous-demo --only plain guided

Takes the model with the shortcut that `vitreous demo` leaves in its folder (and trains it if it is
not there), finetunes it from the same 128 masked pictures in every way listed below, and prints
accuracy on the normal set, the shifted set and without a tag, and the share of relevance on the
object. About 15 s a line on two cores; lines that are done are not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vitreous.config import parse_overrides
from vitreous.demo import Demo
from vitreous.demo.measure import NORMAL, PLAIN_GROUND, SHIFTED, accuracies, draw_tests, shares
from vitreous.demo.run import TEST_SEED
from vitreous.io import read_json, write_json
from vitreous.models import load_model
from vitreous.training import train

PAPER = "--objectives.relevance.weight 0.8 --objectives.relevance.foreground 0.3"
OWN = "--objectives.classification.target prediction"
SETTINGS = {
    "plain": ("plain", ""),
    "guided (the recipe)": ("guided", ""),
    "guided, the paper's weights and target": ("guided", f"{PAPER} {OWN}"),
    "guided, classification on the own prediction": ("guided", OWN),
    "guided, second order": ("guided", "--objectives.relevance.second_order true"),
    "guided, no foreground term": ("guided", "--objectives.relevance.foreground 0"),
    "guided, no background term": ("guided", "--objectives.relevance.background 0"),
    "guided, from the third layer on": ("guided", "--objectives.relevance.start_layer 2"),
    "guided, lr 1e-4": ("guided", "--optimizer.lr 1e-4"),
    "guided, lr 4e-4": ("guided", "--optimizer.lr 4e-4"),
    "guided, 4 pictures a class, 60 epochs": ("guided", "--data.train 32 --training.epochs 60"),
    "guided, 64 pictures a class, 4 epochs": ("guided", "--data.train 512 --training.epochs 4"),
    "backgrounds swapped": ("swapped", ""),
    "guided and backgrounds swapped": ("guided", "--objectives.background_swap.weight 0.5"),
    "plain, lr 2e-4 (the guided recipe's)": ("plain", "--optimizer.lr 2e-4"),
    "plain, lr 4e-4": ("plain", "--optimizer.lr 4e-4"),
}


def measure_setting(story: Demo, place: int, tests: Any) -> dict[str, float]:
    """Train and measure one line, or read what was measured."""
    recipe, overrides = list(SETTINGS.values())[place]
    folder = story.out / "search" / f"{place:02d}"
    done = folder / "measured.json"
    if not done.is_file():
        values = parse_overrides(overrides.split())
        values["model"] = {"name": str(story.out / "shortcut")}
        values.setdefault("training", {})["samples"] = 0
        train(story.recipe(recipe, **values), folder, quiet=True)
        model = load_model(folder)
        records = [*accuracies(model, tests), *shares(model, tests)]
        write_json(done, {f"{r.suite} {r.dataset}": r.value for r in records})
    return read_json(done)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("vitreous-demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], help="how names of lines begin")
    arguments = parser.parse_args()
    story = Demo(arguments.out, arguments.seed, quiet=True)
    start = story.pretrained() if not (story.out / "shortcut" / "results.json").is_file() else None
    shortcut = story.train("shortcut", start or story.out / "pretrained")
    tests = draw_tests(story.world, 400, TEST_SEED)
    model = load_model(shortcut)
    first = {f"{r.suite} {r.dataset}": r.value for r in accuracies(model, tests)}
    first |= {f"{r.suite} {r.dataset}": r.value for r in shares(model, tests)}
    print(
        "| setting | normal | shifted | no tag | relevance on the object |\n|---|---|---|---|---|"
    )
    print_line("with the shortcut", first)
    for place, name in enumerate(SETTINGS):
        if name.startswith(tuple(arguments.only)):
            print_line(name, measure_setting(story, place, tests))


def print_line(name: str, values: dict[str, float]) -> None:
    """Print one row."""
    keys = [
        f"clean {NORMAL}",
        f"shifts {SHIFTED}",
        f"shifts {PLAIN_GROUND}",
        f"explanation {NORMAL}",
    ]
    print(
        f"| {name} | " + " | ".join(f"{100 * values[key]:.1f}" for key in keys) + " |", flush=True
    )


if __name__ == "__main__":
    main()
