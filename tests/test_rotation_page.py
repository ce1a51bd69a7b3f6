"""Rotation × adversary: where arms start, and what is computed of stored answers and neurons."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from vitreous import load_model, save_model

ROOT = Path(__file__).parents[1]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    yield importlib.import_module("rotation_page")
    for name in ("rotation_page", "rotation_measure", "rotation", "joint"):
        sys.modules.pop(name, None)


def run(page: ModuleType, shift: float = 0.0, right: float = 0.5, seed: int = 0) -> dict:
    """A run whose neurons are better by `shift`, and that has a share of the images right."""
    random = np.random.default_rng(0)
    sessions = {
        name: {"r": (random.uniform(0.2, 0.6, 20) + shift).tolist()} for name in page.REPORTED_ON
    }
    # Half of these neurons are not reliable, and far off: they must not count.
    sessions[page.WITH_REPEATS]["ceiling"] = [0.8, 0.2] * 10
    unreliable = sessions[page.WITH_REPEATS]["r"]
    unreliable[1::2] = [-0.9] * 10
    pack = importlib.import_module("rotation_measure").pack
    answers = np.random.default_rng(seed).permutation(np.arange(40) < 40 * right)
    turned = {angle: pack(answers) for angle in ("90", "180", "270")}
    layers = {"early": [0.1, *[0.1] * 20], "late": [0.3 + shift, *np.linspace(0.2, 0.4, 20)]}
    return {
        "answers": {"clean": pack(answers), "turned": turned, "corrupted": {"fog": pack(answers)}},
        "attacks": {"PGD-50": pack(answers[:10] & False), "sequence": pack(answers[:10] & False)},
        "shifted": {"other background": pack(answers)},
        "v4": {"layer": "late", "sessions": sessions},
        "it": {"human IT": dict(layers), "monkey IT": dict(layers)},
        "cpu_seconds": 7,
    }


def test_v4_counts_reliable_neurons_and_pairs_arms_on_them(page: ModuleType) -> None:
    runs = {"plain": {0: run(page)}, "both": {0: run(page, 0.1), 1: run(page, 0.2)}}
    reliable = page.reliable_neurons(runs)
    assert [int(kept.sum()) for kept in reliable.values()] == [10, 20, 20, 20]
    plain, both = (page.mean_of_seeds(seeds, reliable) for seeds in runs.values())
    expected = [
        np.median(np.array(v["r"])[reliable[s]]) for s, v in run(page)["v4"]["sessions"].items()
    ]
    assert page.v4_score(plain) == pytest.approx(np.mean(expected))
    assert page.v4_score(both) - page.v4_score(plain) == pytest.approx(0.15)
    low, high = page.v4_interval(both, plain)
    assert low == pytest.approx(0.15) == high, "every neuron moves alike, whichever is drawn"
    low, high = page.v4_interval(plain)
    assert low < page.v4_score(plain) < high and high - low > 0.02


def test_accuracies_are_means_over_seeds_and_differences_are_paired(page: ModuleType) -> None:
    both = {0: run(page, right=0.5), 1: run(page, right=1.0)}
    assert page.over_seeds(both, "clean").mean() == pytest.approx(0.75)
    assert page.right(both[0], "turned").tolist() == page.right(both[0], "clean").tolist()
    assert page.over_seeds({0: {}}, "clean") is None and page.percent(None) == "–"
    same = page.over_seeds({0: both[0]}, "clean")
    assert page.difference(same - same) == "+0.0 [+0.0, +0.0]"
    assert page.difference(np.ones(40)) == "+100.0 [+100.0, +100.0]"
    moved = np.array([1.0, 0, 0, -1, 0, 1] * 20)
    value, low, high = (float(x.strip("[],")) for x in page.difference(moved).split(" "))
    half = 196 * moved.std() / len(moved) ** 0.5
    assert value == 16.7 and low == pytest.approx(16.7 - half, abs=1.5)
    assert high == pytest.approx(16.7 + half, abs=1.5)


def test_a_sum_draws_the_same_images_for_sets_of_one_size(page: ModuleType) -> None:
    """What one set gains the other loses, image by image: nothing is left in any drawing."""
    gains = np.array([1.0, 0.0, 0.0, 1.0, -1.0, 0.0])
    assert page.summed_difference([gains, -gains]) == "+0.0 [+0.0, +0.0]"
    alone = page.summed_difference([gains, np.zeros(5)])
    assert alone.startswith("+8.3 [-") and alone != page.summed_difference([gains])


def test_the_layer_of_one_species_is_chosen_on_the_other(page: ModuleType) -> None:
    one = run(page)
    one["it"]["human IT"] = {"early": [0.9] * 21, "late": [0.1] * 21}
    assert page.it_values({0: one}, "human IT")[0] == pytest.approx(0.1), "late, by the monkey"
    assert page.it_values({0: one}, "monkey IT")[0] == pytest.approx(0.1), "early, by people"
    low, high = page.jackknifed(page.it_values({0: run(page)}, "human IT"))
    assert low < 0.3 < high and low + high == pytest.approx(0.6)


def test_gather_and_page_make_tables_of_what_is_there(page: ModuleType, tmp_path: Path) -> None:
    page.FILE, page.PAGE = tmp_path / "rotation.json", tmp_path / "rotation.md"
    page.FIGURE = tmp_path / "rotation.png"
    page.PAGE.write_text(f"# Head\n{page.MARKS[0]}\nold\n{page.MARKS[1]}\ntail\n")
    (tmp_path / "measured").mkdir()
    made = {"start-0": run(page), "plain-0": run(page, 0.01), "both-0": run(page, 0.1)}
    made["both_swap-0"] = {k: v for k, v in run(page).items() if k in ("answers", "attacks")}
    for name, values in made.items():
        (tmp_path / "measured" / f"{name}.json").write_text(json.dumps(values))
    page.gather("vit", tmp_path)
    page.page()
    text = page.PAGE.read_text()
    assert text.startswith("# Head\n") and text.endswith("tail\n") and "old" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| both + swap | 1 ")]
    assert row.count("50.0") == 3 and " 0.0 [0.0, " in row and "–" in row
    assert "+0.090 [+0.090, +0.090]" in text
    assert page.FIGURE.is_file()


SMALL = {"img_scale": [1.0, 1.0], "patch_size": [8, 16], "embed_dim": [24, 24]}
SMALL |= {"depth": [[1, 1, 0]], "num_heads": [2, 2]}


@pytest.mark.parametrize(
    ("name", "options"),
    [("vit_tiny_patch16_224", {"depth": 1}), ("crossvit_tiny_240", SMALL)],
)
def test_a_narrowed_model_answers_as_before_among_its_classes(
    page: ModuleType, tmp_path: Path, name: str, options: dict
) -> None:
    known = ["n1", "n2", "n3", "n4", "n5"]
    sized = {"pretrained": False, "image_size": 64, "num_classes": 5, "class_names": known}
    whole = load_model(name, **sized, **options)
    save_model(whole, tmp_path / "whole")
    few = importlib.import_module("rotation").narrow(tmp_path / "whole", ["n4", "n2"])
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(few(images), whole(images)[:, [3, 1]], atol=1e-6)
    save_model(few, tmp_path / "few")
    again = load_model(tmp_path / "few")
    assert list(again.class_names) == ["n4", "n2"] and again.num_classes == 2
    with torch.no_grad():
        assert torch.allclose(again(images), few(images), atol=1e-6)
