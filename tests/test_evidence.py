"""What the scripts of the evidence compute from stored answers."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "evidence"
# Four images a class: two classes to choose on, two to report on; every second class is guided.
CLASSES = np.repeat(["a", "b", "c", "d"], 4)
CHOSEN_ON = np.isin(CLASSES, ["a", "b"])
GUIDED = np.isin(CLASSES, ["a", "c"])


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def answers(*right: int) -> dict[str, np.ndarray]:
    """Of each class, in order, so many of its four images are right; the originals all are."""
    bits = np.concatenate([np.arange(4) < count for count in right])
    return {"original": np.ones(16, bool), "random_class": bits}


RUNS = {
    "start": answers(1, 1, 1, 1),
    "train_3/plain-2e-6-0": answers(2, 2, 2, 2),
    "train_3/plain-8e-6-0": answers(1, 1, 4, 4),
    "train_3/plain-2e-6-1": answers(2, 2, 1, 2),
    "train_3/swap-2e-6-0": answers(2, 2, 4, 4),
    "train_3/swap-8e-6-0": answers(3, 3, 4, 2),
    "train_3/swap-8e-6-1": answers(0, 0, 2, 3),
    "train_16/swap-4e-6-0": answers(4, 4, 0, 0),
}


def test_guided_classes_are_told_apart_and_rates_chosen_on_other_classes(monkeypatch) -> None:
    page = module("guidance_page", monkeypatch)
    shown, rates = page.picked(page.of_list(RUNS, "train_3"), CHOSEN_ON)
    assert rates == {"none": "-", "plain": "2e-6 of 2", "swap": "8e-6 of 2"}
    assert sorted(shown["swap"]) == ["0", "1"] and sorted(shown["none"]) == ["0", "1"]
    each = page.gained(shown["swap"], shown["plain"], "random_class", ~CHOSEN_ON & GUIDED)
    assert each.mean(1).tolist() == [0.5, 0.25], "class c: 4 of 4 to 2, then 2 to 1"
    each = page.gained(shown["swap"], shown["plain"], "random_class", ~CHOSEN_ON & ~GUIDED)
    assert each.mean(1).tolist() == [0, 0.25], "class d: 2 to 2, then 3 to 2"
    lines = "\n".join(page.few_lines(RUNS, CHOSEN_ON, GUIDED))
    guided, never = lines.split("**Classes never guided**")
    row = next(line for line in guided.splitlines() if line.startswith("| swap"))
    assert "75.0: +37.5 [" in row and "(+50.0, +25.0)" in row
    row = next(line for line in never.splitlines() if line.startswith("| swap"))
    assert "62.5: +12.5 [" in row and "(+0.0, +25.0)" in row
    row = next(line for line in guided.splitlines() if line.startswith("| none"))
    assert "25.0: -12.5 [" in row, "class c: 1 of 4 to the mean of 2 and 1"


def test_makings_of_masks_are_compared_with_plain_of_the_same_seed(monkeypatch) -> None:
    page = module("guidance_page", monkeypatch)
    runs = {
        "start": answers(1, 1, 1, 1),
        "train_16/plain-2e-6-0": answers(0, 0, 1, 1),
        "train_16/plain-2e-6-1": answers(0, 0, 3, 3),
        "train_16_sam/swap-2e-6-1": answers(4, 4, 4, 4),
        "train_16_tokencut/swap-2e-6-0": answers(4, 4, 2, 1),
        "train_16/swap-2e-6-1": answers(4, 4, 4, 2),
    }
    masks = {"train_16_tokencut": {"masked": 3, "images": 4, "sam": 0.5}}
    lines = list(page.making_lines(runs, ~CHOSEN_ON, masks))
    place = lines.index("The same less the same arm with boxes:")
    (row,) = (line for line in lines[place:] if line.startswith("| swap"))
    assert row.startswith("| swap | SAM |") and "+25.0 [" in row, "8 of 8 less 6 of 8"
    by_making = {line.split(" | ")[1]: line for line in lines[:place] if line.startswith("| swap")}
    assert "+25.0 [" in by_making["SAM"]
    assert "| 3 of 4 | 0.50 |" in by_making["TokenCut"] and "+12.5 [" in by_making["TokenCut"]


def test_what_is_looked_at_is_compared_image_by_image(monkeypatch) -> None:
    page = module("guidance_page", monkeypatch)
    # The first image is of a class on which a rate was chosen: nothing is told of it.
    files = {"files": ["a/1.png", "c/1.png", "d/1.png"]}
    flat = {**files, "positive": [99.0, 10.0, 10.0], "negative": [0.0, 50.0, 50.0]}
    after = {**flat, "positive": [0.0, 8.0, 8.0]}
    looks = {
        "start": {"share": [0.9, 0.2, 0.4], **flat},
        "train_16/plain-2e-6-0": {"share": [0.0, 0.3, 0.5], **flat},
        "train_16_sam/guidance-2e-6-0": {"share": [0.9, 0.5, 0.7], **after},
    }
    lines = list(page.look_lines(looks, {"c", "d"}))
    assert lines[0].startswith("Of 2 originals")
    rows = [line for line in lines if line.startswith("| guidance")]
    assert len(rows) == 1 and "masks: SAM | 1 | 60.0: +20.0 [+20.0, +20.0]" in rows[0]
    assert "8.0: -2.0 [-2.0, -2.0]" in rows[0] and "50.0: +0.0" in rows[0]


def test_an_object_is_cut_out_by_its_mask_and_masks_are_compared(monkeypatch, tmp_path) -> None:
    masks = module("masks", monkeypatch)
    inside = np.zeros((4, 4), bool)
    inside[1:3, 1:3] = True
    photo, ground = np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 3), 7, np.uint8)
    made = masks.other_place(photo, inside, ground)
    assert (made[inside] == 200).all() and (made[~inside] == 7).all()
    half = inside.copy()
    half[1] = False
    assert masks.overlap(inside, half) == 0.5
    assert masks.overlap(np.zeros_like(half), np.zeros_like(half)) == 0
    whole = masks.save(np.ones((64, 64), bool), tmp_path / "whole.png")
    for title, files in {"box": [whole, whole], "sam": [whole, whole], "cut": [whole, ""]}.items():
        rows = [{"path": "a.png", "label": "a", "mask": str(file)} for file in files]
        masks.write_list(tmp_path / f"{title}.csv", rows)
    told = masks.agreement(tmp_path, ["box", "sam", "cut"])
    assert told["cut"] == {"masked": 1, "images": 2, "box": 0.5, "sam": 0.5}


PAGES = ("groups_page", "search_page", "base_models", "guidance_page", "collect", "published")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_what_its_script_makes_of_the_stored_answers(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    script = module(name, monkeypatch)
    committed = script.PAGE.read_text(encoding="utf-8")
    begun = rf"(<!-- tables: benchmarks/evidence/{name}\.py[^\n]*-->\n).*?(<!-- end)"
    emptied, parts = re.subn(begun, r"\1\2", committed, flags=re.DOTALL)
    assert parts == len(getattr(script, "PARTS", "1")) and len(emptied) < len(committed)
    page = tmp_path / "page.md"
    page.write_text(emptied, encoding="utf-8")
    monkeypatch.setattr(script, "PAGE", page)
    if hasattr(script, "FIGURE"):
        monkeypatch.setattr(script, "FIGURE", tmp_path / "figure.png")
    (script.main if name == "published" else script.page)()
    assert page.read_text(encoding="utf-8") == committed
