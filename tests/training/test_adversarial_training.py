"""Adversarial training in the engine: recipes, schedule, probe, objectives, resuming."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from golden.projection import load
from helpers import tiny_recipe, write_masked_set
from vitreous.config import build
from vitreous.data.batch import Batch
from vitreous.data.dataset import Dataset
from vitreous.data.readers import Split
from vitreous.data.stores import ArrayImages
from vitreous.errors import VitreousError
from vitreous.models import Classifier, load_model
from vitreous.models.forward import ForwardPass
from vitreous.training import list_recipes, load_recipe, train
from vitreous.training.adversaries.fgsm import FGSM
from vitreous.training.engine import Trainer
from vitreous.training.objectives import Step
from vitreous.training.objectives.gradalign import GradAlign
from vitreous.training.objectives.trades import Trades
from vitreous.training.recipe import Recipe
from vitreous.training.robust_validation import sudden_drop
from vitreous.training.run import RunFolder
from vitreous.training.step import Share

PUBLISHED = {
    "18_dagger_408_adv_rot", "18_dagger_408_adv", "18_dagger_408_rot", "18_dagger_408_gray",
    "18_dagger_408_adv_rot_gray", "15_dagger_240_adv_rot", "9_dagger_240_adv_rot",
    "vit_small_16_adv_rot", "vit_small_32_adv_rot", "vit_base_16_adv_rot", "vit_base_32_adv_rot",
    "vit_base_8_adv_rot", "vit_large_16_adv_rot", "swin_large_adv_rot",
}  # fmt: skip
ANY_DATA = {"data": {"images": "somewhere"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_masked_set(tmp_path / "data")
    return tmp_path / "data"


def make(root: Path, **overrides: Any) -> Recipe:
    values = tiny_recipe(root, objectives={"classification": {}}, **overrides)
    return build(Recipe, values)


def test_all_fourteen_published_configurations_are_there() -> None:
    assert len(PUBLISHED) == 14
    for name in PUBLISHED:
        recipe = load_recipe(f"crossvit/{name}", ANY_DATA)
        has = set(name.split("_"))
        assert (recipe.adversary is not None) == ("adv" in has)
        assert ("quarter_turn" in recipe.transforms.train) == ("rot" in has)
        assert ("grayscale" in recipe.transforms.train) == ("gray" in has)
        # Turns and gray come before the crop, as published.
        order = ["resize", "quarter_turn", "grayscale", "random_resized_crop", "flip"]
        assert list(recipe.transforms.train) == [v for v in order if v in recipe.transforms.train]
        assert recipe.training.epochs == (5 if has & {"15", "8", "swin"} else 6)
        assert (recipe.training.batch_size, recipe.training.seed) == (64, 0)
        assert (recipe.optimizer.name, recipe.optimizer.weight_decay) == ("adam", 1e-4)
        if recipe.adversary is not None:
            assert recipe.adversary == FGSM(epsilon=2 / 255, step_size=2.5 / 255, random_start=True)
            assert recipe.selection.metric == "validation/robust_accuracy"
        own = timm.get_pretrained_cfg(recipe.model.name)
        assert own is not None
        wrong = recipe.model.normalization == "imagenet" and own.mean != (0.485, 0.456, 0.406)
        assert wrong == (f"crossvit/{name}_own_normalization" in list_recipes())


def test_the_schedule_is_the_published_one() -> None:
    golden = load("fast_adversarial_training")["lr"]
    schedule = load_recipe("crossvit/18_dagger_408_adv_rot", ANY_DATA).schedule
    for epoch in range(7):
        for iteration in range(10):
            rate = schedule(0.0, epoch + iteration / 10, 6)
            assert rate == pytest.approx(golden[epoch, iteration], rel=1e-12)
    with pytest.raises(VitreousError, match="up to epoch 7"):
        schedule(0.0, 7.1, 8)


def patterns(count: int, seed: int) -> Dataset:
    """Images of six classes of coarse patterns under noise, 16 pixels."""
    shapes = np.random.default_rng(7).random((6, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 6, count)
    strength = 0.4 + 0.6 * generator.random((count, 1, 1, 1))
    images = 0.5 + strength * (shapes[labels] - 0.5)
    images += 0.1 * generator.standard_normal(images.shape)
    pixels = torch.from_numpy((images.clip(0, 1) * 255).round().astype(np.uint8))
    return Dataset(ArrayImages(pixels, [str(i) for i in range(count)]), labels, tuple("abcdef"))


def small_step(images: Tensor, clean: Tensor, model: Classifier) -> Step:
    labels = torch.arange(len(images)) % 3
    nothing = torch.zeros(len(images))
    batch = Batch(images, labels, nothing, nothing.bool(), labels)
    return Step(
        model=model,
        classifier=model,
        batch=batch,
        clean=clean,
        forward=ForwardPass(images, model(images)),
    )


@pytest.fixture
def tiny_vit() -> Classifier:
    return load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=3,
        image_size=32,
        embed_dim=24,
        depth=2,
        num_heads=3,
    ).train()


def test_a_drop_is_told_once_and_noise_is_not() -> None:
    assert sudden_drop([0.3]) is None
    assert sudden_drop([0.1, 0.3, 0.27, 0.31, 0.25]) is None
    assert sudden_drop([0.08, 0.02]) is None
    message = sudden_drop([0.2, 0.4, 0.05], [0.6, 0.7, 0.8])
    assert message is not None and "40.0% to 5.0%" in message and "80.0%" in message
    assert sudden_drop([0.2, 0.4, 0.05, 0.04]) is None


@pytest.mark.parametrize("dies_at", [2, 5])
def test_killed_and_resumed_equals_uninterrupted_with_the_carried_perturbation(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    recipe = make(
        root,
        adversary={"name": "fgsm", "random_start": False, "epsilon": 0.05, "step_size": 0.02},
        training={
            "epochs": 2,
            "batch_size": 5,
            "trackers": [],
            "samples": 0,
            "checkpoint_every": 1,
        },
    )
    train(recipe, tmp_path / "whole", quiet=True)
    own = Trainer.step

    def dying(self, batch, whole):
        if self.progress.step == dies_at:
            raise KeyboardInterrupt
        return own(self, batch, whole)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "cut", quiet=True)
    state = RunFolder(tmp_path / "cut").load_state()
    assert state is not None
    (of_this_process,) = state["adversary"]
    assert of_this_process["perturbation"].shape == (5, 3, 32, 32)
    assert of_this_process["perturbation"].abs().max() > 0
    train(recipe, tmp_path / "cut", quiet=True)
    whole, cut = (RunFolder(tmp_path / name).load_state() for name in ("whole", "cut"))
    for a, b in ((whole["model"], cut["model"]), (whole["adversary"][0], cut["adversary"][0])):
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert whole["progress"]["robust"] == cut["progress"]["robust"]


def test_the_loss_scale_of_the_attack_is_in_the_checkpoint(root: Path, tmp_path: Path) -> None:
    recipe = make(root, adversary={"name": "fgsm"})
    trainer = Trainer(recipe, tmp_path / "run", quiet=True)
    trainer.folder.prepare(recipe)
    batch = next(iter(_batches(trainer)))
    with torch.autocast("cpu", torch.float16):
        trainer.optimize.backward(batch, Share.whole(batch))
    scale = trainer.state.adversary["loss_scale"].clone()
    trainer.state.save()
    again = Trainer(recipe, tmp_path / "run", quiet=True)
    again.state.resume()
    assert torch.equal(again.state.adversary["loss_scale"], scale) and scale > 1


def _batches(trainer: Trainer):
    from vitreous.data.loading import load_batches

    return load_batches(trainer.train_data, [[0, 1]], 0)


def test_accumulation_does_not_go_with_a_carried_perturbation(root: Path) -> None:
    with pytest.raises(VitreousError, match=r"set training.accumulation 1"):
        make(
            root,
            adversary={"name": "fgsm", "random_start": False},
            training={"accumulation": 2},
        )


def test_the_best_epoch_is_chosen_by_robustness_unless_another_figure_is_named(root: Path) -> None:
    assert make(root).selection.metric == "validation/loss"
    robust = make(root, adversary={"name": "fgsm"})
    assert (robust.selection.metric, robust.selection.mode) == ("validation/robust_accuracy", "max")
    named = make(root, adversary={"name": "fgsm"}, selection={"metric": "validation/accuracy"})
    assert (named.selection.metric, named.selection.mode) == ("validation/accuracy", "max")
    assert (
        make(root, adversary={"name": "pgd"}, robust_validation={"images": 0}).selection.mode
        == "min"
    )


def test_trades_is_its_definition(tiny_vit: Classifier) -> None:
    clean, perturbed = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    outcome = Trades(beta=6.0)(small_step(perturbed, clean, tiny_vit))
    natural, found = (tiny_vit(x).double().softmax(1) for x in (clean, perturbed))
    expected = -natural[range(4), [0, 1, 2, 0]].log().mean()
    expected = expected + 6 * (natural * (natural / found).log()).sum(1).mean()
    assert outcome.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(VitreousError, match="the recipe has no adversary"):
        Trades()(small_step(clean, clean, tiny_vit))


def test_gradalign_is_zero_where_the_loss_is_linear_and_trains_the_weights(
    tiny_vit: Classifier,
) -> None:
    images = torch.rand(4, 3, 32, 32)
    linear = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3)))
    with torch.no_grad():
        linear.net[1].weight.normal_(std=1e-6)
    assert GradAlign(epsilon=0.1)(small_step(images, images, linear)).loss.item() < 1e-6
    bent = GradAlign(epsilon=0.3)
    loss = bent(small_step(images, images, tiny_vit)).loss
    assert 1e-4 < loss.item() < 2
    weight = tiny_vit.net.blocks[0].attn.qkv.weight
    (gradient,) = torch.autograd.grad(loss, weight)
    # The derivative along one direction, against differences of the loss with the same noise.
    direction = torch.randn_like(weight)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * 1e-3 * direction)
        torch.manual_seed(5)
        values.append(bent(small_step(images, images, tiny_vit)).loss.item())
        with torch.no_grad():
            weight.sub_(sign * 1e-3 * direction)
    torch.manual_seed(5)
    loss = bent(small_step(images, images, tiny_vit)).loss
    (gradient,) = torch.autograd.grad(loss, weight)
    slope = (values[0] - values[1]) / 2e-3
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=0.05, abs=1e-4)


@pytest.mark.parametrize(
    "objectives", [{"trades": {"beta": 2.0}}, {"classification": {}, "gradalign": {}}]
)
def test_they_train_in_the_engine(objectives, root: Path, tmp_path: Path) -> None:
    values = tiny_recipe(root, objectives=objectives)
    values["adversary"] = {"name": "pgd", "steps": 1, "loss": "kl"}
    values["training"] = {**values["training"], "epochs": 1, "samples": 0}
    results = train(build(Recipe, values), tmp_path / "run", quiet=True)
    figures = {r.metric: r.value for r in results.find(moment="after")}
    assert np.isfinite(figures["loss"]) and 0 <= figures["robust_accuracy"] <= 1


@pytest.mark.long
def test_catastrophic_overfitting_is_reported_while_clean_accuracy_looks_fine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A small network, one step from the picture itself, and an epsilon that grows too large."""
    width = 16
    net = nn.Sequential(
        nn.Conv2d(3, width, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 16, 64),
        nn.ReLU(),
        nn.Linear(64, 6),
    )
    classifier = Classifier(net, architecture={"architecture": "none", "model_args": {}})
    epsilon = 80 / 255
    recipe = build(
        Recipe,
        {
            "model": {"name": "given below"},
            "data": {"name": "folders", "images": "given below"},
            "adversary": {
                "name": "pgd",
                "steps": 1,
                "random_start": False,
                "epsilon": epsilon,
                "step_size": epsilon,
                "warmup": 0.6,
            },
            "objectives": {"classification": {}},
            "robust_validation": {"epsilon": 32 / 255, "images": 100},
            "optimizer": {"name": "adam", "lr": 3e-3},
            "training": {"epochs": 16, "batch_size": 64, "trackers": [], "samples": 0},
        },
    )
    split = Split(patterns(800, 0), patterns(100, 1))
    with caplog.at_level(logging.WARNING):
        results = train(recipe, tmp_path, classifier=classifier, split=split, quiet=True)
    rows = [r for r in RunFolder(tmp_path).read_metrics() if r["split"] == "validation"]
    message, *_ = results.extra["warnings"]
    epoch = int(message.split()[1].rstrip(":"))
    assert "catastrophic overfitting" in message and "n_fgsm" in message
    assert any("catastrophic overfitting" in record.message for record in caplog.records)
    assert rows[epoch]["accuracy"] > 0.9, "clean accuracy does not show it"
    best = max(range(len(rows)), key=lambda i: rows[i]["robust_accuracy"])
    assert results.context["best_epoch"] == best < epoch
    assert rows[best]["robust_accuracy"] > 2 * rows[epoch]["robust_accuracy"]
