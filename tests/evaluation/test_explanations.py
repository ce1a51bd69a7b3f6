"""Explanations measured over a set: several methods, masks, the segmentation file, the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import write_squares
from vitreous.attribution import relevance
from vitreous.cli import main
from vitreous.data.readers import read_dataset
from vitreous.errors import VitreousError
from vitreous.evaluation.evaluators.explanation import ExplanationSettings, measure_explanations
from vitreous.evaluation.run import EvaluationFolders, evaluate
from vitreous.evaluation.segmentation import segmentation_scores
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.suites import Suite
from vitreous.evaluation.test_sets.segmentation import read_segmentation
from vitreous.models import Classifier, Preprocessing, load_model, save_model
from vitreous.results import Results

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture
def tiny() -> Classifier:
    torch.manual_seed(1)
    return load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=2, image_size=32, **TINY
    )


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    return write_squares(tmp_path, 6)


def test_explanations_of_several_methods_in_one_pass(tiny: Classifier, masked: Path) -> None:
    items = read_dataset(masked / "images", masks=masked / "masks", require_masks=True)
    explaining = ExplanationSettings(("gradient_attention", "rollout"))
    found = measure_explanations(
        tiny,
        items,
        "squares",
        masked / "rows",
        explaining=explaining,
        streaming=StreamSettings(batch_size=4, progress=False),
    )
    records, entry = found.records(), found.entry()
    value = {(r.metric, r.settings["method"]): r for r in records}

    images, masks = [], []
    for i in range(len(items)):
        item = items[i]
        images.append(torch.from_numpy(np.array(item.image)).permute(2, 0, 1) / 255)
        masks.append(item.mask)
    maps = relevance(tiny, torch.stack(images), method="rollout")
    for metric, expected in segmentation_scores(maps, torch.cat(masks)).items():
        record = value[metric, "rollout"]
        assert record.value == pytest.approx(expected, abs=1e-6)
        assert record.ci95[0] <= record.value <= record.ci95[1] and record.n == 6
    curve = entry["explanations"]["gradient_attention"]
    assert curve["fraction"] == pytest.approx([i / 10 for i in range(10)])
    assert len(curve["positive"]) == len(curve["negative"]) == 10
    assert curve["positive"][0] == curve["negative"][0]


def test_a_method_that_does_not_hold_is_left_out_and_told(masked: Path) -> None:
    network = load_model("resnet10t", pretrained=False, num_classes=2)
    network.preprocessing = Preprocessing((32, 32), 1.0)
    suite = Suite(methods=("gradient_attention", "input_gradient"), removal=False)
    from vitreous.evaluation.suites import MaskedSettings

    one = MaskedSettings("squares", masked / "images", masked / "masks")
    suite = Suite(masked=(one,), methods=suite.methods, removal=False)
    done = evaluate(
        network,
        suite,
        EvaluationFolders(None, masked / "out"),
        streaming=StreamSettings(progress=False),
    )
    assert {r.settings["method"] for r in done.records} == {"input_gradient"}
    assert any(p.startswith("gradient_attention was left out") for p in done.problems)


def test_imagenet_segmentation_file_is_read_as_matlab_wrote_it(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "gtsegs_ijcv.mat"
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3)).astype(np.uint8)
    mask = np.zeros((6, 9), np.uint8)
    mask[1:3, 2:7] = 1
    with h5py.File(file, "w") as opened:
        opened["data/picture"] = pixels.transpose(2, 1, 0)  # MATLAB's order is the reverse
        opened["data/mask"] = mask.transpose(1, 0)
        reference = h5py.special_dtype(ref=h5py.Reference)
        inner = opened.create_dataset("data/cell", (1, 1), reference)
        inner[0, 0] = opened["data/mask"].ref
        for name, target in (("img", "data/picture"), ("gt", "data/cell")):
            table = opened.create_dataset(f"value/{name}", (1, 1), reference)
            table[0, 0] = opened[target].ref
    items = read_segmentation(file)
    item = items[0]
    assert np.array_equal(np.asarray(item.image), pixels)
    assert np.array_equal(item.mask[0].numpy(), mask) and item.label == -1 and len(items) == 1
    (tmp_path / "other.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(VitreousError, match="calvin-vision"):
        read_segmentation(tmp_path / "other.mat")


def test_the_command_measures_what_is_there_and_names_what_is_missing(
    tiny: Classifier, masked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = masked / "model", masked / "out"
    save_model(tiny, model)
    arguments = ["evaluate", str(model), "--data", str(masked / "images"), "--out", str(out)]
    arguments += ["--masks", str(masked / "masks"), "--rotation", "90", "--noise", "3"]
    arguments += ["--sets", "imagenet-a", "--root", str(masked), "--workers", "0"]
    arguments += ["--device", "cpu", "--samples", "1", "--no-removal"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "not measured: imagenet-a is missing" in printed and str(out) in printed
    results = Results.read(out)
    assert {r.suite for r in results.records} == {
        "clean",
        "rotation",
        "corruptions",
        "explanation",
    }
    entry = results.extra["evaluation"]["images"]
    assert entry["n"] == 6 and sum(entry["per_class"]["n"]) == 6
    assert entry["preprocessing"]["size"] == [32, 32]
    shown = entry["best"] + entry["worst"]
    assert shown and all((out / s["picture"]).is_file() for s in shown)
    assert all((out / s["relevance"]).is_file() for s in shown)
    before = results.records
    assert main([*arguments, "--input.crop-ratio", "1.0"]) == 0
    after = Results.read(out)
    added = after.records[len(before) :]
    assert len(after.records) > len(before)
    assert any("preprocessing" in r.settings for r in added)
