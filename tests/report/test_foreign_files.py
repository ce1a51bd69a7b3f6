"""Files of others: none outside the run is shown, and wrong types are told in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import make_run
from vitreous import cli
from vitreous.io import write_json

SECRET = (17, 203, 91)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "a", "plain")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    file = tmp_path / "secret.png"
    Image.fromarray(np.full((8, 8, 3), SECRET, np.uint8)).save(file)
    return file


def report(run: Path, capsys, tmp_path: Path, form: str = "html") -> tuple[int, str]:
    out = tmp_path / f"card.{form}"
    status = cli.main(["report", str(run), "--format", form, "--out", str(out)])
    if status:
        assert not out.exists()
    return status, capsys.readouterr().err


@pytest.mark.parametrize("how", ["absolute", "parents", "link"])
@pytest.mark.parametrize("place", ["samples", "targeted", "evaluation"])
def test_a_listing_cannot_show_a_file_of_another_folder(run, foreign, place, how, capsys, tmp_path):
    name = {"absolute": str(foreign), "parents": "../../../secret.png", "link": "link.png"}[how]
    folder = run if place == "evaluation" else run / place
    if how == "parents" and place == "evaluation":
        name = "../../secret.png"
    if how == "link":
        (folder / "link.png").symlink_to(foreign)
    if place == "evaluation":
        raw = json.loads((run / "results.json").read_text())
        answer = {"picture": name, "label": "a", "prediction": "b", "confidence": 0.5}
        raw["extra"]["evaluation"] = {"set": {"best": [answer]}}
        write_json(run / "results.json", raw)
    else:
        entry = {"index": 1, "title": "x", "label": "y", "files": {"picture": name}}
        write_json(folder / f"{place}.json", [entry])
    status, error = report(run, capsys, tmp_path)
    assert status == 1 and "does not lie in" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "results.json",
        "metrics.jsonl",
        "recipe.yaml",
        "samples/samples.json",
        "targeted",
        "predictions/set-0/predictions.csv",
        "predictions/set-0/header.json",
        "predictions",
    ],
)
def test_a_link_that_leads_out_of_a_run_is_not_followed(run, name, capsys, tmp_path):
    """A run may be an archive of others, and a card is given away."""
    table = run / "predictions" / "set-0"
    table.mkdir(parents=True)
    (table / "predictions.csv").write_text("file,label,prediction,correct\na.png,x,y,False\n")
    write_json(table / "header.json", {"name": "set", "settings": {}})
    assert report(run, capsys, tmp_path)[0] == 0
    (tmp_path / "card.html").unlink()
    moved = tmp_path / "elsewhere"
    (run / name).rename(moved)
    (run / name).symlink_to(moved)
    status, error = report(run, capsys, tmp_path)
    assert status == 1 and "does not lie in" in error and error.count("\n") == 1, error


WRONG: list[tuple[str, Any]] = [
    ("evaluation", [1]),
    ("evaluation", "text"),
    ("evaluation", {"set": 3}),
    ("evaluation", {"set": {"per_class": 3}}),
    ("evaluation", {"set": {"per_class": {"name": 5, "n": [1], "correct": [1]}}}),
    ("evaluation", {"set": {"per_class": {"name": ["a"], "n": ["x"], "correct": [1]}}}),
    ("evaluation", {"set": {"rotation": {"angle": ["x"], "same_prediction": [1]}}}),
    ("evaluation", {"set": {"rotation": [1]}}),
    ("evaluation", {"set": {"factors": {"value": [[1]], "top1": ["x"]}}}),
    ("evaluation", {"set": {"calibration": {"confidence": [1]}}}),
    ("evaluation", {"set": {"shape_bias": {"category": ["cat"]}}}),
    ("evaluation", {"set": {"effective_robustness": {"points": [1], "model": [0, 1]}}}),
    ("evaluation", {"set": {"effective_robustness": {"points": [[0, 1]], "model": 3}}}),
    ("evaluation", {"set": {"explanations": {"m": {"positive": [1]}}}}),
    ("depth", [1]),
    ("depth", {"V4": [{"score": 1}]}),
    ("depth", {"V4": [3]}),
    ("rdms", [1]),
    ("rdms", {"IT": [["x"]]}),
    ("rdms", {"IT": [[0, 1], [1]]}),
    ("rdms", {"IT": 4}),
    ("rdms", {"IT": [[], []]}),
    ("brain_reference", [1]),
    ("attack_warnings", ["x"]),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: json.dumps(value)[:60])
@pytest.mark.parametrize("form", ["html", "markdown"])
def test_tables_of_wrong_types_are_told_in_one_line(run, name, value, form, capsys, tmp_path):
    raw = json.loads((run / "results.json").read_text())
    brain = {"region": "V4", "layer": "a", "regression": "pls", "convention": "brainscore_2022"}
    measured = {"suite": "brain", "dataset": "m", "metric": "ceiled", "value": 0.5}
    raw["records"].append({**measured, "settings": brain})
    raw["extra"][name] = value
    write_json(run / "results.json", raw)
    status, error = report(run, capsys, tmp_path, form)
    assert status == 1 and error.count("\n") == 1 and len(error) < 500, error


@pytest.mark.parametrize("best", [[3], {"a": 1}, [{"picture": 4, "confidence": "x"}]], ids=str)
def test_a_gallery_of_wrong_types_is_told_in_one_line(run, best, capsys, tmp_path):
    raw = json.loads((run / "results.json").read_text())
    raw["extra"]["evaluation"] = {"set": {"best": best}}
    write_json(run / "results.json", raw)
    status, error = report(run, capsys, tmp_path)
    assert status == 1 and error.count("\n") == 1 and len(error) < 500, error


@pytest.mark.parametrize(
    "settings", [{"epsilon": "x"}, {"epsilon": [1]}, {"epsilon": None}, {"epsilon": {}}], ids=str
)
def test_settings_of_wrong_types_are_told_in_one_line(run, settings, capsys, tmp_path):
    raw = json.loads((run / "results.json").read_text())
    raw["records"] = [
        {"suite": "attack", "dataset": "d", "metric": "top1", "value": 0.5, "settings": settings}
    ]
    write_json(run / "results.json", raw)
    status, error = report(run, capsys, tmp_path)
    assert status == 1 and "'settings' or 'extra'" in error and error.count("\n") == 1
