"""Joint objectives: consistency without masks, swapped backgrounds, weights over time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import vitreous
from helpers import TINY_CROSSVIT, TINY_MODEL, tiny_recipe
from vitreous.config import build, merge
from vitreous.data.batch import Batch
from vitreous.data.rotation import turn_each
from vitreous.errors import VitreousError
from vitreous.training import Recipe
from vitreous.training.objectives.background_swap import (
    BackgroundSwap,
    choose_donors,
    feather,
    fill_holes,
    swap_backgrounds,
)
from vitreous.training.objectives.base import Step
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.objectives.relevance_consistency import RelevanceConsistency
from vitreous.training.step import Share, compute_loss


def make_vit(**options: Any) -> vitreous.Classifier:
    arguments = {**TINY_MODEL["options"], **options}
    model = vitreous.load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=3, image_size=32, **arguments
    )
    return model.train()


def make_crossvit() -> vitreous.Classifier:
    return vitreous.load_model(
        "crossvit_tiny_240", pretrained=False, num_classes=3, image_size=32, **TINY_CROSSVIT
    ).train()


def make_batch(count: int = 4, masked: tuple[int, ...] = (0, 1, 2, 3)) -> Batch:
    masks = torch.zeros(count, 1, 32, 32)
    for row in masked:
        masks[row, :, 4 + row : 20 + row, 8:24] = 1
    has_mask = torch.tensor([row in masked for row in range(count)])
    labels = torch.arange(count) % 3
    return Batch(torch.rand(count, 3, 32, 32), labels, masks, has_mask, torch.arange(count))


def attacked(batch: Batch) -> Batch:
    noise = 0.1 * torch.randn_like(batch.images)
    return dataclasses.replace(batch, images=(batch.images + noise).clamp(0, 1))


# Weights over time


def test_a_ramp_scales_the_gradient_linearly_between_two_shares_of_the_training():
    model, batch = make_vit(), make_batch()
    whole = {"classification": Classification(2.0)}
    ramped = {"classification": Classification(2.0, ramp=(0.2, 0.6))}
    falling = {"classification": Classification(2.0, ramp=(0.5, 0.0))}
    full = compute_loss(model, model, batch, whole).means
    for progress, factor in {0.0: 0, 0.2: 0, 0.3: 0.25, 0.5: 0.75, 0.6: 1, 1.0: 1}.items():
        found = compute_loss(model, model, batch, ramped, progress=progress).means
        assert found.item() == pytest.approx(factor * full.item(), abs=1e-6)
    for progress, factor in {0.0: 1, 0.25: 0.5, 0.5: 0, 1.0: 0}.items():
        found = compute_loss(model, model, batch, falling, progress=progress).means
        assert found.item() == pytest.approx(factor * full.item(), abs=1e-6)


def test_every_objective_takes_a_ramp_and_refuses_one_without_length(tmp_path):
    from vitreous.training.objectives import OBJECTIVES

    for name in OBJECTIVES:
        assert OBJECTIVES[name](ramp=(0.0, 0.5)).weight_at(0.25) > 0
        assert OBJECTIVES[name](ramp=(0.0, 0.5)).weight_at(0.0) == 0
    values = merge(tiny_recipe(tmp_path), {"objectives": {"relevance": {"ramp": [0.3, 0.3]}}})
    with pytest.raises(VitreousError, match=r"objectives\.relevance.*two different shares"):
        build(Recipe, values)


# Relevance consistency


def test_turning_each_picture_and_back_is_the_identity():
    images, turns = torch.rand(4, 2, 6, 6), torch.tensor([0, 1, 2, 3])
    turned = turn_each(images, turns)
    assert torch.equal(turned[1], torch.rot90(images[1], 1, (1, 2)))
    assert torch.equal(turn_each(turned, -turns), images)


def test_a_model_that_does_not_see_orientation_has_no_turn_loss_and_another_one_has():
    model, batch = make_vit(), make_batch()
    net = model.net
    with torch.no_grad():
        net.pos_embed.zero_()
        kernel = net.patch_embed.proj.weight
        kernel.copy_(sum(torch.rot90(kernel, k, (2, 3)) for k in range(4)) / 4)
    objective = {"consistency": RelevanceConsistency(attack=0.0)}
    found = compute_loss(model, model, batch, objective)
    assert found.figures["consistency/turn"] < 1e-8
    with torch.no_grad():
        net.pos_embed.normal_()
    found = compute_loss(model, model, batch, objective)
    assert found.figures["consistency/turn"] > 1e-4


@pytest.mark.parametrize("make", [make_vit, make_crossvit])
def test_the_attack_term_and_its_gradient_are_those_of_two_separate_explanations(make):
    model, batch = make(), make_batch(masked=())
    perturbed = attacked(batch)
    objective = {"consistency": RelevanceConsistency(turn=0.0)}
    loss = compute_loss(model, model, perturbed, objective, clean=batch.images)
    loss.scaled(Share.whole(batch)).backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    maps = [
        vitreous.relevance(model, images, batch.labels, differentiable=True)
        for images in (batch.images, perturbed.images)
    ]
    expected = ((maps[0] - maps[1]) ** 2).mean()
    expected.backward()
    assert loss.means.item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected > 0
    for found, parameter in zip(gradients, model.parameters()):
        if parameter.grad is not None:
            assert torch.allclose(found, parameter.grad, atol=1e-7, rtol=1e-4)


def test_without_an_adversary_only_turned_maps_count():
    model, batch = make_vit(), make_batch(masked=())
    found = compute_loss(model, model, batch, {"consistency": RelevanceConsistency()})
    assert "consistency/turn" in found.figures and "consistency/attack" not in found.figures


def test_pictures_that_are_not_square_are_turned_by_half():
    images = torch.rand(2, 3, 32, 48)
    model = vitreous.load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=3,
        image_size=(32, 48),
        **TINY_MODEL["options"],
    )
    batch = Batch(
        images,
        torch.zeros(2, dtype=torch.long),
        images[:, :1],
        images[:, 0, 0, 0] > 2,
        torch.arange(2),
    )
    found = compute_loss(model, model, batch, {"consistency": RelevanceConsistency()})
    assert found.figures["loss"].isfinite()


def test_relevance_can_be_taken_on_the_clean_picture():
    model, batch = make_vit(), make_batch()
    perturbed = attacked(batch)
    figures = {
        images: compute_loss(
            model, model, perturbed, {"relevance": Relevance(images=images)}, clean=batch.images
        ).figures
        for images in ("clean", "perturbed")
    }
    only_clean = compute_loss(model, model, batch, {"relevance": Relevance()}).figures
    only_perturbed = compute_loss(model, model, perturbed, {"relevance": Relevance()}).figures
    assert torch.equal(figures["clean"]["relevance"], only_clean["relevance"])
    assert torch.equal(figures["perturbed"]["relevance"], only_perturbed["relevance"])
    assert not torch.equal(figures["clean"]["relevance"], figures["perturbed"]["relevance"])


def test_the_clean_pass_is_made_once_for_all_objectives(monkeypatch):
    model, batch = make_vit(), make_batch()
    passes = []
    original = Step.again

    def counting(self, images, **settings):
        passes.append(images)
        return original(self, images, **settings)

    monkeypatch.setattr(Step, "again", counting)
    objectives = {
        "relevance": Relevance(images="clean"),
        "consistency": RelevanceConsistency(turn=0.0),
        "swap": BackgroundSwap(consistency=1.0),
    }
    compute_loss(model, model, attacked(batch), objectives, clean=batch.images)
    assert len(passes) == 1


# Background swap


def test_feathering_is_a_gaussian_blur():
    masks = make_batch().masks
    expected = gaussian_filter(masks[1, 0].numpy(), 1.3, mode="nearest", truncate=4 / 1.3)
    assert np.abs(feather(masks, 1.3)[1, 0].numpy() - expected).max() < 1e-5
    assert torch.equal(feather(masks, 0.0), masks)


def test_holes_are_filled_from_what_is_around_them():
    images = torch.zeros(1, 3, 33, 47)
    images[:, 0], images[:, 1, :, :24], images[:, 2, :, 24:] = 0.5, 0.25, 0.75
    known = torch.ones(1, 1, 33, 47)
    known[:, :, 5:28, 10:40] = 0
    spoiled = torch.where(known > 0, images, 9.0)
    filled = fill_holes(spoiled, known)
    assert torch.equal(filled * known, images * known)
    assert torch.allclose(filled[:, 0], images[:, 0], atol=1e-6)
    assert filled[:, 1:].min() >= 0 and filled[:, 1:].max() < 0.75 + 1e-6
    assert filled[0, 1, 16, 11] > filled[0, 1, 16, 38]
    assert not fill_holes(images, known * 0).any()


def test_the_object_stays_and_the_background_is_the_donors_without_its_object():
    masks = torch.zeros(2, 1, 32, 32)
    masks[0, :, 4:12, 4:12] = 1
    masks[1, :, 14:30, 14:30] = 1
    red, green, blue = torch.eye(3)[:, :, None, None]
    images = torch.stack(
        [red * masks[0] + 0.5 * (1 - masks[0]), blue * masks[1] + green * (1 - masks[1])]
    )
    rows, donors = torch.tensor([0, 1]), torch.tensor([1, 0])
    hard = swap_backgrounds(images, masks, rows, donors, 0.0)
    assert torch.allclose(hard[0], red * masks[0] + green * (1 - masks[0]), atol=1e-6)
    assert torch.allclose(hard[1], blue * masks[1] + 0.5 * (1 - masks[1]), atol=1e-6)
    soft = swap_backgrounds(images, masks, rows, donors, 1.0)
    assert torch.allclose(soft[0, :, 8, 8], red[:, 0, 0], atol=1e-3)
    assert 0.2 < soft[0, 0, 8, 4] < 0.8
    assert torch.allclose(soft[0, :, 25, 25], green[:, 0, 0], atol=1e-6)


def test_donors_are_other_masked_pictures_that_have_a_background():
    has_mask = torch.tensor([True, False, True, True, True])
    background = torch.tensor([0.5, 0.9, 0.05, 0.4, 0.6])
    seen = set()
    for seed in range(50):
        torch.manual_seed(seed)
        rows, donors = choose_donors(has_mask, background, 0.1)
        assert rows.tolist() == [0, 3, 4] and not (rows == donors).any()
        seen.update(zip(rows.tolist(), donors.tolist()))
    assert seen == {(a, b) for a in (0, 3, 4) for b in (0, 3, 4) if a != b}
    assert len(choose_donors(has_mask, background, 0.55)[0]) == 0


def test_the_swap_loss_is_that_of_the_swapped_pictures_and_leaves_other_rows_alone():
    model, batch = make_vit(), make_batch(masked=(0, 2))
    objective = BackgroundSwap(consistency=0.7, feather=0.05)
    loss = compute_loss(model, model, batch, {"swap": objective})
    swapped = swap_backgrounds(
        batch.images, batch.masks, torch.tensor([0, 2]), torch.tensor([2, 0]), 0.05 * 32
    )
    logits, before = model(swapped), model(batch.images[[0, 2]]).softmax(1)
    cross_entropy = -logits.log_softmax(1)[torch.arange(2), batch.labels[[0, 2]]].mean()
    divergence = (before * (before.log() - logits.log_softmax(1))).sum(1).mean()
    expected = cross_entropy + 0.7 * divergence
    assert loss.means.item() == pytest.approx(expected.item(), rel=1e-5)
    changed = dataclasses.replace(batch, images=batch.images.clone())
    changed.images[[1, 3]] = 0.0
    again = compute_loss(model, model, changed, {"swap": objective})
    assert again.means.item() == pytest.approx(loss.means.item(), rel=1e-6)


def test_one_masked_row_alone_has_nothing_to_swap():
    model, batch = make_vit(), make_batch(masked=(1,))
    loss = compute_loss(model, model, batch, {"swap": BackgroundSwap()})
    loss.scaled(Share.whole(batch)).backward()
    assert loss.means.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
