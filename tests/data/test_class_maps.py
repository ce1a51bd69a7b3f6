"""Every class map and list of published facts, entry by entry, against pins from their sources."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from golden.pin_maps import SHIFTS, digest, timm_list
from vitreous.data.class_maps import class_map
from vitreous.evaluation.effective import published_accuracies

PINS = json.loads((Path(__file__).parents[1] / "golden" / "maps.json").read_text())
LISTS = ("imagenet", "imagenet_a", "imagenet_r")


def entries(name: str, facts: dict[str, Any]) -> dict[str, object]:
    """The canonical form of one of the package's maps: entry → value."""
    if name in LISTS:
        return {"wnids": facts["wnids"]}
    if name == "imagenet_c":
        groups = {n: group for group, names in facts["groups"].items() for n in names}
        assert facts["alexnet_error"].keys() == groups.keys()
        return {n: [group, facts["alexnet_error"][n]] for n, group in groups.items()}
    if name == "testbed":
        shifts: dict[str, object] = {f"shift {k}": v for k, v in facts["shifts"].items()}
        rows = {k: dict(zip(facts["columns"], row)) for k, row in facts["models"].items()}
        return shifts | {k: dict(sorted(row.items())) for k, row in rows.items()}
    counted = {"folders": facts["folders"]} if "folders" in facts else {}
    return counted | facts["classes"]


def wrong(name: str, facts: dict[str, Any]) -> set[str]:
    """Entries that differ from their pin, that have none, or that are missing."""
    pins, found = PINS[name]["entries"], entries(name, facts)
    known = {k for k in pins if name != "testbed" or k.startswith("shift ") or k in found}
    changed = {k for k in found if pins.get(k) != digest(k, found[k])}
    return changed | (known - found.keys())


def facts_of(name: str) -> dict[str, Any]:
    return copy.deepcopy(published_accuracies() if name == "testbed" else class_map(name))


def test_every_map_of_the_package_is_pinned() -> None:
    folder = resources.files("vitreous.data") / "class_maps"
    names = {Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".json")}
    assert names | {"testbed"} == PINS.keys()


@pytest.mark.parametrize("name", sorted(PINS))
def test_each_entry_is_that_of_its_source(name: str) -> None:
    assert wrong(name, facts_of(name)) == set()


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_those_of_the_installed_timm(name: str) -> None:
    assert class_map(name)["wnids"] == timm_list(f"{name}_synsets.txt")


def test_the_testbed_has_its_models_of_standard_training() -> None:
    assert len(published_accuracies()["models"]) == 78
    assert published_accuracies()["shifts"].keys() == SHIFTS.keys()


def _swap(table: dict[str, Any], a: str, b: str) -> None:
    table[a], table[b] = table[b], table[a]


def _rename(table: dict[str, Any], old: str, new: str) -> None:
    table[new] = table.pop(old)


def _swap_items(values: list[Any], a: int, b: int) -> None:
    values[a], values[b] = values[b], values[a]


MUTATIONS: list[tuple[str, str, Callable[[dict[str, Any]], object]]] = [
    ("objectnet", "banana", lambda m: _swap(m["classes"], "banana", "backpack")),
    ("objectnet", "chair", lambda m: m["classes"]["chair"].reverse()),
    ("objectnet", "bicycle", lambda m: m["classes"]["bicycle"].sort()),
    ("objectnet", "band_aid", lambda m: _rename(m["classes"], "band_aid", "band-aid")),
    ("objectnet", "wok", lambda m: m["classes"].pop("wok")),
    ("objectnet", "apple", lambda m: m["classes"].update(apple=[948])),
    ("objectnet", "folders", lambda m: m.update(folders=312)),
    ("si_score", "zebra", lambda m: _swap(m["classes"], "zebra", "koala")),
    ("si_score", "ipod", lambda m: _rename(m["classes"], "ipod", "iPod")),
    ("si_score", "torch", lambda m: m["classes"]["torch"].append(626)),
    ("cue_conflict", "bear", lambda m: m["classes"]["bear"].remove(294)),
    ("cue_conflict", "oven", lambda m: _swap(m["classes"], "oven", "knife")),
    ("imagenet_c", "spatter", lambda m: _swap(m["alexnet_error"], "spatter", "saturate")),
    ("imagenet_c", "snow", lambda m: m["alexnet_error"].update(snow=0.8668)),
    ("imagenet_c", "fog", lambda m: _swap(m["groups"], "weather", "digital")),
    ("imagenet", "wnids", lambda m: _swap_items(m["wnids"], 134, 517)),
    ("imagenet_a", "wnids", lambda m: m["wnids"].pop()),
    ("imagenet_r", "wnids", lambda m: _swap_items(m["wnids"], 0, 1)),
    ("testbed", "FixResNet50", lambda m: _swap_items(m["models"]["FixResNet50"], 7, 8)),
    ("testbed", "FixResNet50", lambda m: _swap_items(m["columns"], 1, 2)),
    ("testbed", "shift objectnet", lambda m: m["shifts"]["objectnet"].reverse()),
    ("testbed", "shift imagenet-r", lambda m: m["shifts"].pop("imagenet-r")),
]


@pytest.mark.parametrize("name, entry, change", MUTATIONS)
def test_a_changed_entry_is_named(name: str, entry: str, change: Callable[..., object]) -> None:
    facts = facts_of(name)
    change(facts)
    assert entry in wrong(name, facts)
