"""The engine: run folders, resuming, several processes, and mistakes told in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import yaml

import vitreous
from helpers import tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.config import build, merge, parse_overrides
from vitreous.errors import VitreousError
from vitreous.models import load_model
from vitreous.models.fingerprint import model_fingerprint
from vitreous.results import Results
from vitreous.training import Recipe, engine, list_recipes, train
from vitreous.training.engine import Trainer
from vitreous.training.recipe import recipe_values
from vitreous.training.schedules import PiecewiseLinear, StepDecay


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_masked_set(tmp_path / "set")
    return tmp_path / "set"


def make(root: Path, **overrides: Any) -> Recipe:
    return build(Recipe, merge(tiny_recipe(root), overrides))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_auto_reads_beside_the_model_and_gives_the_same_weights(root, tmp_path, monkeypatch):
    asked = []

    def resolved(workers: object, device: torch.device, processes: int) -> int:
        asked.append((workers, device.type, processes))
        return 2 if workers == "auto" else 0

    monkeypatch.setattr(engine, "resolve_workers", resolved)
    started = []
    begin = engine.load_batches
    monkeypatch.setattr(
        engine, "load_batches", lambda *given: started.append(given[3]) or begin(*given)
    )
    for workers in ("auto", 0):
        once = make(root, training={"epochs": 1, "samples": 0, "workers": workers})
        train(once, tmp_path / str(workers), quiet=True)
    assert asked == [("auto", "cpu", 1), (0, "cpu", 1)] and started == [2, 0]
    assert same(weights(tmp_path / "auto"), weights(tmp_path / "0"))


def test_a_run_leaves_everything_its_reader_needs(root, tmp_path):
    out = tmp_path / "run"
    results = train(make(root), out, quiet=True)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows if r["split"] == "validation"] == [0, 1, 2, 3]
    assert [r["step"] for r in rows if r["split"] == "train"] == list(range(1, 10))
    best = min(r["loss"] for r in rows if r["split"] == "validation" and r["epoch"])
    kept = results.find(metric="loss", moment="after")[0]
    assert kept.value == best
    assert kept.settings["sum"] == "0.2 classification, 0.8 relevance"
    results = Results.read(out)
    before, after = (
        results.find(metric="top1", moment=m)[0].provenance for m in ("before", "after")
    )
    assert results.find(metric="top1", moment="before")[0].n == 3
    assert after.kind == "train" and (after.seconds or 0) > 0 and after.hardware["processor"]
    assert after.fingerprint == model_fingerprint(load_model(out)) and not before.fingerprint
    assert results.context["base_model"] == "vit_tiny_patch16_224, untrained"
    assert load_model(out).name == out.name
    samples = json.loads((out / "samples" / "samples.json").read_text())
    for row in samples:
        assert set(row["files"]) == {"picture", "mask", "before", "after"}
        assert all((out / "samples" / name).is_file() for name in row["files"].values())
    assert build(Recipe, yaml.safe_load((out / "recipe.yaml").read_text())) == make(root)
    classifier = vitreous.load_model(out)
    assert classifier.class_names == ["class_0", "class_1", "class_2"]
    again = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32)
    normalised = (images - classifier.mean) / classifier.std
    assert torch.allclose(again(normalised), classifier(images), atol=1e-6)


def test_running_a_finished_run_again_changes_nothing(root, tmp_path):
    out = tmp_path / "run"
    train(make(root), out, quiet=True)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.suffix in (".safetensors", ".jsonl")}
    train(make(root), out, quiet=True)
    assert before == {p: p.read_bytes() for p in before}


def test_workers_and_accumulation_do_not_change_the_step(root, tmp_path):
    plain = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0}}
    for name, training in {"a": {}, "b": {"workers": 2}, "c": {"accumulation": 2}}.items():
        recipe = make(root, training={"epochs": 1, **training}, **plain)
        train(recipe, tmp_path / name, quiet=True)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    a, c = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert all(torch.allclose(a[k], c[k], atol=1e-6) for k in a)


def stop_after(monkeypatch, step: int) -> None:
    """Make the engine die after a number of steps, wherever it is."""
    original = Trainer.step

    def dying(self, batch, whole):
        if self.progress.step >= step:
            raise KeyboardInterrupt
        return original(self, batch, whole)

    monkeypatch.setattr(Trainer, "step", dying)


@pytest.mark.parametrize("step", [1, 7])
def test_interrupted_and_resumed_equals_uninterrupted(root, tmp_path, monkeypatch, step):
    recipe = make(root, training={"checkpoint_every": 2})
    train(recipe, tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, step)
        train(recipe, tmp_path / "cut", quiet=True)
    train(recipe, tmp_path / "cut", quiet=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def command(root: Path, out: Path, *more: str) -> list[str]:
    recipe = out.parent / f"{root.name}.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(root)))
    return ["train", str(recipe), "--out", str(out), "--quiet", *more]


def test_killed_at_any_point_and_resumed_gives_the_same_weights(root, tmp_path):
    arguments = command(root, tmp_path / "cut", "--training.checkpoint_every", "1")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "vitreous.cli"]
    metrics = tmp_path / "cut" / "metrics.jsonl"
    for rows in (3, 8):
        process = subprocess.Popen([*program, *arguments], env=environment)
        while process.poll() is None and not (
            metrics.is_file() and metrics.read_text().count("\n") >= rows
        ):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "cut" / "results.json").is_file(), "it had ended"
    assert main(arguments) == 0
    assert main(command(root, tmp_path / "whole", "--training.checkpoint_every", "1")) == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert metrics.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_state(
    root, tmp_path, monkeypatch
):
    original = vitreous.training.objectives.classification.Classification.__call__

    def broken(self, step):
        outcome = original(self, step)
        factor = float("nan") if 0.5 < step.progress < 1.0 else 1.0  # 1 in validation
        return vitreous.training.objectives.LossTerm(outcome.loss * factor, outcome.log)

    monkeypatch.setattr(
        vitreous.training.objectives.classification.Classification, "__call__", broken
    )
    with pytest.raises(VitreousError, match=r"not finite at step 6 \(epoch 2\).*last good state"):
        train(make(root), tmp_path / "run", quiet=True)
    kept = weights(tmp_path / "run")
    assert all(v.isfinite().all() for v in kept.values())
    assert safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")


def test_mistakes_are_told_in_one_line(root, tmp_path, capsys):
    def told(*more: str) -> str:
        assert main([*command(root, tmp_path / "bad"), *more]) == 1
        text = capsys.readouterr().err
        assert text.count("\n") == 1 and "Traceback" not in text
        return text

    assert "did you mean 'epochs'?" in told("--training.epoch", "3")
    assert "did you mean 'relevance'?" in told("--objectives.relevence.weight", "1")
    assert "expected int, found str 'many'" in told("--training.epochs", "many")
    assert "did you mean 'random_crop'" in told("--transforms.train.random_crp.size", "3")
    assert "no folder at" in told("--data.images", str(tmp_path / "nowhere"))
    assert "no folder of masks" in told("--data.masks", str(tmp_path / "nowhere"))
    assert "--training.epochs has no value" in told("--training.epochs")
    assert not (tmp_path / "bad").exists() or not list((tmp_path / "bad").rglob("*.safetensors"))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda r: (r / "images/class_1/2.png").write_bytes(b"not a picture"), "images/class_1/2"),
        (lambda r: (r / "images/class_1/2.png").write_bytes(b""), "is empty"),
        (lambda r: (r / "masks/class_1/2.png").unlink(), "1 of 15 pictures have no mask"),
        (lambda r: _mask(r / "masks/class_1/2.png", (7, 9), 255), "is 9×7 pixels"),
        (lambda r: _mask(r / "masks/class_1/2.png", (40, 40), 0), "has no foreground"),
    ],
    ids=["not a picture", "empty", "no mask", "other size", "no foreground"],
)
def test_bad_pictures_and_masks_are_named_and_skipped_only_on_request(
    root, tmp_path, damage, message
):
    damage(root)
    with pytest.raises(VitreousError, match=message):
        train(make(root), tmp_path / "run", quiet=True)
    if "no mask" in message:
        return
    recipe = make(root, data={"on_error": "skip"}, training={"epochs": 1})
    results = train(recipe, tmp_path / "skipped", quiet=True)
    assert len(results.extra["split"]["skipped"]) == 1
    assert "class_1" in results.extra["split"]["skipped"][0]


def _mask(path: Path, size: tuple[int, int], value: int) -> None:
    from PIL import Image

    Image.new("L", size[::-1], value).save(path)


def test_another_recipe_in_the_same_folder_is_refused(root, tmp_path):
    train(make(root, training={"epochs": 1}), tmp_path / "run", quiet=True)
    with pytest.raises(VitreousError, match=r"optimizer\.lr: 0\.001 there, 0\.5 now"):
        train(make(root, optimizer={"lr": 0.5}, training={"epochs": 1}), tmp_path / "run")


def test_bf16_trains(root, tmp_path):
    results = train(
        make(root, training={"precision": "bfloat16", "epochs": 1}), tmp_path / "run", quiet=True
    )
    assert results.find(metric="loss", moment="after")[0].value > 0


def with_paths(source: dict[str, Any]) -> dict[str, Any]:
    """Give a data source, and those inside it, the paths that the user must give."""
    paths = {
        "folders": ["images"],
        "imagenet_s": ["images", "masks"],
        "upweighted_errors": ["predictions"],
    }
    given = {key: key for key in paths.get(source.get("name", ""), []) if key not in source}
    inner = {k: with_paths(v) for k, v in source.items() if isinstance(v, dict)}
    return {**source, **given, **inner}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_in_the_package_is_valid_and_says_what_it_is(name):
    values = recipe_values(name)
    values["data"] = with_paths(values["data"])
    recipe = build(Recipe, values)
    assert recipe.description and recipe.expect
    assert build(Recipe, yaml.safe_load(vitreous.config.to_yaml(recipe))) == recipe


def test_the_paper_settings_are_in_the_recipes():
    published = {
        "vit_base": (3e-6, 1.0),
        "vit_large": (9e-7, 1.0),
        "augreg_small": (2e-6, 1.0),
        "augreg_base": (6e-7, 1.0),
        "augreg_large": (9e-7, 1.0),
        "deit_small": (1e-6, 0.55),
        "deit_base": (8e-7, 0.65),
    }
    for name, (rate, temperature) in published.items():
        values = merge(recipe_values(f"robust_vit/{name}"), {"data": {"images": "a", "masks": "b"}})
        recipe = build(Recipe, values)
        assert recipe.optimizer.lr == rate and recipe.optimizer.weight_decay == 1e-4
        classification, relevance = recipe.objectives.values()
        assert classification.temperature == temperature and classification.weight == 0.2
        assert (relevance.weight, relevance.background, relevance.foreground) == (0.8, 2.0, 0.3)
        assert classification.target == "prediction" and relevance.target == "label"
        assert (recipe.training.epochs, recipe.training.batch_size) == (50, 8)
        assert recipe.data.classes == 500 and recipe.data.per_class == 3


def test_schedules_follow_their_definition():
    step = StepDecay(0.85, 2)
    assert step(3e-6, 0.99, 50) == 3e-6
    assert step(3e-6, 4.5, 50) == pytest.approx(3e-6 * 0.85**2)
    knots = PiecewiseLinear((0.0, 1.0, 3.0), (0.0, 1.0, 0.0))
    assert [knots(9.0, e, 3) for e in (0.0, 0.5, 1.0, 2.0, 3.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]
    with pytest.raises(VitreousError, match="up to epoch 3"):
        knots(9.0, 3.01, 4)


def test_overrides_are_read_as_yaml():
    found = parse_overrides(["--a.b", "2/255", "--c=3e-6", "--d-e.f", "[1, 2]", "--g", "false"])
    assert found == {"a": {"b": "2/255"}, "c": "3e-6", "d_e": {"f": [1, 2]}, "g": False}
