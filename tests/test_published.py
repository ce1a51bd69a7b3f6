"""The page of published figures: every command names recipes, suites and recordings that exist."""

from __future__ import annotations

import re
from pathlib import Path

from vitreous.brain.benchmarks import find_benchmark
from vitreous.evaluation.test_sets import TEST_SETS
from vitreous.recipes import list_recipes

PAGE = Path(__file__).parents[1] / "docs" / "results" / "published.md"


def named(option: str, text: str) -> set[str]:
    return set(re.findall(rf"{option} ([\w./-]+)", text))


def test_commands_of_published_figures_name_what_there_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    trained, suites = named("vitreous train", text), named("--suite", text)
    assert trained <= set(list_recipes()) and len(trained) > 20
    papers = {n for n in list_recipes() if n.startswith("crossvit/") and "small_64" not in n}
    # Twins with other settings than the published ones aim at no published figure.
    assert {n for n in papers if "own_normalization" not in n} <= trained
    folder = Path(__file__).parents[1] / "src" / "vitreous" / "evaluation" / "suites"
    assert suites and suites <= {file.stem.replace("_", "-") for file in folder.glob("*.yaml")}
    assert named("--sets", text) <= set(TEST_SETS)
    recordings = named("--assembly", text) | named("--trials", text)
    assert len(recordings) == 3 and all(find_benchmark(name) for name in recordings)


def test_no_published_figure_is_called_reproduced() -> None:
    rows = [r for r in PAGE.read_text(encoding="utf-8").splitlines() if r.startswith("| ")]
    states = [row.rsplit("|", 2)[1].strip() for row in rows[2:]]
    told = [s for s in states if s not in ("state", "---", "the rows above")]
    assert told and all(state.startswith("waits for ") for state in told)
