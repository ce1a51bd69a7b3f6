"""Optimisers, groups, warm-up, frozen weights and moving averages are timm's."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.optim import create_optimizer_v2
from timm.scheduler.step_lr import StepLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build, merge
from vitreous.errors import VitreousError
from vitreous.training import Recipe
from vitreous.training.engine import Trainer, train
from vitreous.training.settings import OptimizerSettings
from vitreous.training.setup import freeze, make_optimizer


def net() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        *("vit_tiny_patch16_224",),
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=3,
    )


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * group.get("lr_scale", 1.0)
    for step in range(3):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.rand(2, 3, 32, 32)).square().sum().backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("name", ["lamb", "lion", "nadamw", "momentum", "adafactor"])
def test_any_of_timms_optimizers_steps_as_timms(name):
    own, timms = net(), net()
    settings = OptimizerSettings(name=name, lr=1e-3, weight_decay=0.1)
    expected = create_optimizer_v2(
        list(timms.parameters()), name, lr=1e-3, weight_decay=0.1, momentum=0.9
    )
    first, second = trained(own, make_optimizer(own, settings)), trained(timms, expected)
    assert all(torch.equal(first[key], value) for key, value in second.items())


@pytest.mark.parametrize(
    ("settings", "timms"),
    [
        ({"decay_biases": False}, {}),
        ({"decay_biases": False, "layer_decay": 0.7}, {"layer_decay": 0.7}),
    ],
)
def test_groups_are_timms(settings, timms):
    own, other = net(), net()
    made = make_optimizer(own, OptimizerSettings(lr=1e-3, weight_decay=0.1, **settings))
    expected = create_optimizer_v2(other, "adamw", lr=1e-3, weight_decay=0.1, **timms)
    assert {g["weight_decay"] for g in made.param_groups} == {0.0, 0.1}
    first, second = trained(own, made), trained(other, expected)
    for key, value in second.items():
        torch.testing.assert_close(first[key], value, rtol=0, atol=1e-7)


def test_by_default_all_weights_are_one_group():
    (group,) = make_optimizer(net(), OptimizerSettings(weight_decay=0.1)).param_groups
    assert len(group["params"]) == len([*net().parameters()])


def test_warm_up_is_timms():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    timms = StepLRScheduler(optimizer, decay_t=100, warmup_t=4, warmup_lr_init=0.0)
    settings = OptimizerSettings(lr=0.1, warmup=4)
    for epoch in range(8):
        assert settings.rate(0.1, epoch) == pytest.approx(timms._get_lr(epoch)[0])


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="unknown optimizer 'adamx'"):
        OptimizerSettings(name="adamx")
    with pytest.raises(ValueError, match="options are for timm's"):
        OptimizerSettings(options={"betas": [0.9, 0.95]})
    wrong = OptimizerSettings(name="lamb", options={"nothing": 1})
    with pytest.raises(VitreousError, match=r"optimizer\.name lamb: .*nothing"):
        make_optimizer(net(), wrong)
    with pytest.raises(VitreousError, match=r"'blokcs\.\*' is no weight"):
        freeze(net(), ["blokcs.*"])


def make(root: Path, **overrides) -> Recipe:
    write_masked_set(root)
    return build(Recipe, merge(tiny_recipe(root), overrides))


def test_frozen_weights_stay_and_others_move(tmp_path):
    recipe = make(tmp_path / "data", training={"epochs": 1, "samples": 0, "freeze": ["blocks.0.*"]})
    trainer = Trainer(recipe, tmp_path / "run", quiet=True)
    before = {k: v.clone() for k, v in trainer.classifier.net.state_dict().items()}
    trainer.run()
    after = trainer.classifier.net.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and not any(name.startswith("blocks.0.") for name in moved)
    assert {name.split(".")[1] for name in moved if name.startswith("blocks")} == {"1"}


def test_the_moving_average_is_timms_and_is_what_is_kept(tmp_path, monkeypatch):
    recipe = make(
        tmp_path / "data", training={"epochs": 2, "samples": 0, "ema": 0.8, "checkpoint_every": 1}
    )
    timms = []
    own = Trainer.step

    def stepping(self, batch, whole):
        if not timms:
            timms.append(ModelEmaV3(self.classifier.net, decay=0.8))
        figures = own(self, batch, whole)
        timms[0].update(self.classifier.net)
        return figures

    monkeypatch.setattr(Trainer, "step", stepping)
    results = train(recipe, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    expected = timms[0].module.state_dict()
    assert all(torch.equal(state["ema"][name], value) for name, value in expected.items())
    assert any(not torch.equal(state["model"][name], value) for name, value in expected.items())
    if results.context["best_epoch"] == 2:
        kept = load_file(tmp_path / "run" / "model.safetensors")
        assert all(torch.equal(kept[name], value) for name, value in expected.items())

    def dying(self, batch, whole):
        if self.progress.step == 2:
            raise KeyboardInterrupt
        return own(self, batch, whole)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", dying)
        train(recipe, tmp_path / "cut", quiet=True)
    train(recipe, tmp_path / "cut", quiet=True)
    cut = torch.load(tmp_path / "cut" / "checkpoints" / "last.pt", weights_only=True)
    assert all(torch.equal(cut["ema"][name], value) for name, value in expected.items())


def test_trackers_are_accelerates(tmp_path):
    with pytest.raises(VitreousError, match="unknown tracker 'mlfow'"):
        make(tmp_path / "data", training={"trackers": ["mlfow"]})
    recipe = make(tmp_path / "data", training={"trackers": ["swanlab"]})
    with pytest.raises(VitreousError, match=r"training\.trackers swanlab needs a package"):
        Trainer(recipe, tmp_path / "run", quiet=True)
