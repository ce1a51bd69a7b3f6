"""Mixup and CutMix are timm's, with any number of processes, refused where they mean nothing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy

from helpers import tiny_recipe, tiny_vit, write_masked_set
from vitreous.cli import main
from vitreous.data.batch import Batch
from vitreous.training.engine import Trainer
from vitreous.training.mixing import MixingSettings
from vitreous.training.objectives.classification import Classification
from vitreous.training.run import RunFolder
from vitreous.training.step import compute_loss

KINDS = [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}]


def batch(count: int) -> Batch:
    torch.manual_seed(0)
    images = torch.rand(count, 3, 32, 32)
    nothing = torch.zeros(count, 1, 32, 32)
    rows = torch.arange(count)
    return Batch(images, rows % 3, nothing, rows < 0, rows)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_batch_is_mixed_as_timms(kind: dict[str, float], seed: int) -> None:
    given = batch(6)
    timms = Mixup(kind.get("mixup", 0.0), kind.get("cutmix", 0.0), num_classes=3, label_smoothing=0)
    np.random.seed(seed)
    images, targets = timms(given.images.clone(), given.labels)
    np.random.seed(seed)
    mixed = MixingSettings(**kind).mix(given, 3)
    assert mixed.targets is not None
    assert torch.equal(mixed.images, images) and torch.equal(mixed.targets, targets)
    assert not torch.equal(mixed.images, given.images), "something was mixed"
    model = tiny_vit(3)
    loss = compute_loss(model, model, mixed, {"classification": Classification()})
    expected = SoftTargetCrossEntropy()(model(images), targets)
    torch.testing.assert_close(loss.plain, expected)
    assert "accuracy" not in loss.figures


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_each_row_is_one_processes_and_mixed_as_in_the_whole(count: int, processes: int) -> None:
    settings, given = MixingSettings(mixup=0.4, cutmix=1.0), batch(count)
    np.random.seed(5)
    whole = settings.mix(given, 3)
    shares = [settings.places(count, process, processes) for process in range(processes)]
    assert sorted(itertools.chain(*shares)) == list(range(count))
    assert max(map(len, shares)) == len(shares[0])
    assert whole.targets is not None
    for places in filter(None, shares):
        own = Batch(*(v[places] for v in vars(given).values() if v is not None))
        np.random.seed(5)
        mixed = settings.mix(own, 3)
        assert mixed.targets is not None
        assert torch.equal(mixed.images, whole.images[places])
        assert torch.equal(mixed.targets, whole.targets[places])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": {"classification": {}, "relevance": {}}}, "objective relevance is of one"),
        ({"objectives": {"rrr": {}}}, "objective rrr is of one picture"),
        (
            {"objectives": {"classification": {"target": "prediction"}}},
            "leaves mixed labels unused",
        ),
        ({"adversary": {"name": "fgsm"}}, "the adversary attacks the one label"),
    ],
)
def test_what_is_of_one_picture_is_refused_in_one_line(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tiny_recipe(tmp_path, **{"objectives": {"classification": {}}, **changes})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**values, "mixing": {"mixup": 0.2}}))
    assert main(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line and "mixing.mixup" in line and not (tmp_path / "out").exists()


def test_a_training_that_mixes_and_drops_paths_goes_on_as_if_unbroken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_masked_set(tmp_path / "set")
    values = tiny_recipe(tmp_path / "set", objectives={"classification": {"label_smoothing": 0.1}})
    values["model"] = {**values["model"], "options": dict(values["model"]["options"])}
    values["model"]["options"]["drop_path_rate"] = 0.5
    values |= {"mixing": {"mixup": 0.4, "cutmix": 1.0}}
    values["training"] |= {"epochs": 2, "checkpoint_every": 1, "samples": 0}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    line = ["train", str(file), "--quiet", "--out"]
    assert main([*line, str(tmp_path / "whole")]) == 0

    own = Trainer.step

    def dying(self, *arguments):
        if self.progress.step == 2:
            raise KeyboardInterrupt
        assert self.classifier.net.blocks[1].drop_path1.drop_prob == 0.5
        return own(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", dying)
        assert main([*line, str(tmp_path / "cut")]) == 130
    assert main([*line, str(tmp_path / "cut")]) == 0
    states = [RunFolder(tmp_path / name).load_state() for name in ("whole", "cut")]
    assert all(torch.equal(states[1]["model"][k], v) for k, v in states[0]["model"].items())
    values["model"]["options"]["drop_path_rate"] = 0.0
    file.write_text(yaml.safe_dump(values))
    assert main([*line, str(tmp_path / "no_drop")]) == 0
    other = RunFolder(tmp_path / "no_drop").load_state()
    assert any(not torch.equal(other["model"][k], v) for k, v in states[0]["model"].items())
