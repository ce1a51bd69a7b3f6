"""The model card: read by the hub's own parser, complete, and without markup of others."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from helpers import make_run
from vitreous.io import write_json
from vitreous.report.markdown import write_markdown
from vitreous.results import Record, Results


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "a", "guided")
    results = Results.read(folder)
    results.context["base_model"] = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    results.context["recipe"] = {"data": {"name": "folders", "images": "photos"}}
    results.add([Record("clean", "nothing", "top1", math.nan, 0)])
    results.write(folder / "results.json")
    write_json(folder / "config.json", {"architecture": "vit_tiny_patch16_224", "num_classes": 7})
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_the_hub_reads_metadata_and_results(run, tmp_path):
    card = ModelCard.load(write_markdown([run], tmp_path / "README.md", license="apache-2.0"))
    assert card.data.base_model == "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert card.data.license == "apache-2.0" and card.data.library_name == "timm"
    assert card.data.model_name == "guided"
    values = {(r.dataset_name, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert values["photos", "clean top1"] == 0.913 and values["sketches", "shifts top1"] == 0.417
    assert values["photos", "attack top1 (attack pgd, epsilon 4/255)"] == 0.127
    assert all(r.task_type == "image-classification" for r in card.data.eval_results)
    assert not any(name == "nothing" for name, _ in values)


def test_the_metadata_pass_the_hubs_own_classes_without_leniency(run, tmp_path):
    """Offline: with the classes of the hub's client (`ModelCard.validate` would ask the hub)."""
    text = write_markdown([run], tmp_path / "README.md", license="apache-2.0").read_text("utf-8")
    values = yaml.safe_load(text.split("---\n")[1])
    named = {k: v for k, v in values.items() if k != "model-index"}
    name, results = model_index_to_eval_results(values["model-index"])
    data = ModelCardData(**named, model_name=name, eval_results=results)
    again = data.to_dict()
    assert flat(again["model-index"]) == flat(values["model-index"])
    assert {k: again[k] for k in named} == named
    assert all(isinstance(r, EvalResult) and r.dataset_type and r.metric_type for r in results)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._/-]*", r.dataset_type) for r in results)
    broken = [{**values["model-index"][0], "results": [{"task": {}}]}]
    with pytest.raises(KeyError):
        model_index_to_eval_results(broken)


def flat(index):
    """Model, data set and metric of each number, in whatever order they are grouped."""
    return sorted(
        (model["name"], str(result["dataset"]), str(sorted(metric.items())))
        for model in index
        for result in model["results"]
        for metric in result["metrics"]
    )


def test_a_reader_learns_what_it_is_for_and_where_it_fails(run, tmp_path):
    text = write_markdown([run], tmp_path / "README.md").read_text()
    for heading in ("Model and data", "Intended use", "Limitations", "How to load it"):
        assert f"\n## {heading}\n" in text
    for fact in (
        "Base model: vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "Classes: 7",
        "name folders, images photos",
        "Under attack, at worst: 5.3 %",
        "Under shift, at worst: 41.7 %",
        "vitreous.load_model",
        "local-dir:",
    ):
        assert fact in text
    (run / "model.safetensors").unlink()
    assert "How to load it" not in write_markdown([run], tmp_path / "README.md").read_text()


def test_text_from_files_is_no_markup(run, tmp_path):
    results = Results.read(run)
    results.model = "<script>alert(1)</script>"
    results.context["base_model"] = "<img src=x onerror=y>"
    results.extra["notes"] = ["<b>bold</b>", "# heading"]
    results.add([Record("shifts", "<i>set</i> | [x](http://y)", "top1", 0.5)])
    results.write(run / "results.json")
    (run / "recipe.yaml").write_text("a: |\n  ```\n  <script>\n")
    text = write_markdown([run], tmp_path / "README.md").read_text()
    body = text.split("---\n", 2)[2].partition("````yaml")[0]
    for markup in ("<script", "<img", "<b>", "<i>", "\n# heading", "](http"):
        assert markup not in body
    assert "````yaml\na: |\n  ```" in text
