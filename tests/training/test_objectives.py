"""Objectives against the numbers of the published implementation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import vitreous
from golden.projection import largest_difference, load, project, relative_difference
from vitreous.attribution import foreground_share
from vitreous.data.batch import Batch
from vitreous.errors import VitreousError
from vitreous.models.checkpoints import load_weights
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.input_gradients import GradMask, RightForTheRightReasons
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.step import Share, compute_loss


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("relevance_training")


@pytest.fixture
def model(golden) -> vitreous.Classifier:
    meta = json.loads(str(golden["meta"]))
    classifier = vitreous.load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        normalization="half",
        **{k: meta[k] for k in ("num_classes", "embed_dim", "depth", "num_heads")},
    )
    state = {k[2:]: torch.from_numpy(v) for k, v in golden.items() if k.startswith("w/")}
    load_weights(classifier.net, state)
    return classifier.train()


@pytest.fixture
def batch(golden) -> Batch:
    images = torch.from_numpy(golden["image_uint8"]).float() / 255
    masks = torch.from_numpy(golden["seg"]).float()
    count = len(images)
    return Batch(
        images,
        torch.from_numpy(golden["y"]),
        masks,
        torch.ones(count, dtype=torch.bool),
        torch.arange(count),
    )


def robust_vit(temperature: float) -> dict[str, object]:
    return {
        "classification": Classification(0.2, "prediction", temperature),
        "relevance": Relevance(0.8, background=2.0, foreground=0.3),
    }


@pytest.mark.parametrize("temperature", [1.0, 0.65])
def test_robust_vit_terms_and_weight_gradients_are_the_published_ones(
    golden, model, batch, temperature
):
    loss = compute_loss(model, model, batch, robust_vit(temperature))
    loss.scaled(Share.whole(batch)).backward()
    published = {
        "loss": "loss",
        "classification": "classification",
        "relevance/background": "background",
        "relevance/foreground": "foreground",
    }
    for name, key in published.items():
        expected = float(golden[f"robust_T{temperature}/{key}"])
        assert float(loss.figures[name]) == pytest.approx(expected, rel=1e-5)
    prefix = f"projection/robust_T{temperature}/grad/"
    names = [k.removeprefix(prefix) for k in golden if k.startswith(prefix)]
    assert len(names) == 5
    for name in names:
        kept, gradient = f"robust_T{temperature}/grad/{name}", model.net.get_parameter(name).grad
        assert relative_difference(golden, kept, gradient.numpy()) <= 1e-4, name
        scale = float(np.abs(golden[f"sample/{kept}"]).max())
        assert largest_difference(golden, kept, gradient.numpy()) <= 1e-3 * scale, name


def test_three_adamw_steps_are_the_published_ones(golden, model, batch):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-6, weight_decay=1e-4)
    losses = []
    for _ in range(3):
        loss = compute_loss(model, model, batch, robust_vit(1.0))
        losses.append(float(loss.figures["loss"]))
        optimizer.zero_grad()
        loss.scaled(Share.whole(batch)).backward()
        optimizer.step()
    np.testing.assert_allclose(losses, golden["robust_steps/losses"], rtol=1e-4)
    name = "blocks.1.attn.qkv.weight"
    found = model.net.get_parameter(name).detach().numpy()
    assert relative_difference(golden, f"robust_steps/{name}", found) <= 1e-4
    assert largest_difference(golden, f"robust_steps/{name}", found) <= 1e-6


@pytest.mark.parametrize(
    "name, objective", [("gradmask", GradMask), ("rrr", RightForTheRightReasons)]
)
def test_input_gradient_penalties_are_the_published_ones_and_now_train(
    golden, model, batch, name, objective
):
    def penalty_gradient(gradient: str) -> tuple[float, float]:
        model.zero_grad()
        objectives = {name: objective(1.0, gradient)}
        loss = compute_loss(model, model, batch, objectives)
        total = loss.scaled(Share.whole(batch))
        if total.requires_grad:
            total.backward()
        norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        return float(loss.figures["loss"]), float(sum(norms))

    value, norm = penalty_gradient("second_order")
    released_value, released_norm = penalty_gradient("released")
    assert value == pytest.approx(float(golden[f"{name}/penalty"]), rel=1e-4)
    assert released_value == pytest.approx(value, rel=1e-6)
    assert norm > 0 and released_norm == 0
    if f"{name}/classification" in golden:
        found = compute_loss(model, model, batch, {"classification": Classification()})
        expected = float(golden[f"{name}/classification"])
        assert float(found.figures["loss"]) == pytest.approx(expected, rel=1e-5)


def test_saliencies_are_the_published_ones(golden, model, batch):
    images = batch.images.requires_grad_()
    logits = model(images)
    score = logits.gather(1, batch.labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, images, retain_graph=True)
    found = (gradient * model.std).numpy()
    assert largest_difference(golden, "gradmask/saliency", found) < 1e-5
    assert relative_difference(golden, "gradmask/saliency", found) < 1e-4
    (gradient,) = torch.autograd.grad((logits.softmax(1) + 1e-11).log().sum(), images)
    found = (gradient * model.std).numpy()
    scale = float(np.abs(golden["sample/rrr/saliency"]).max())
    assert largest_difference(golden, "rrr/saliency", found) < 1e-4 * scale
    assert relative_difference(golden, "rrr/saliency", found) < 1e-4


def test_projections_estimate_the_norm_of_a_difference_wherever_it_lies():
    array = np.random.default_rng(0).normal(size=(48, 192)).astype(np.float32)
    golden = {"projection/w": project("w", array)}
    for places in (slice(1, 2), slice(0, 500), slice(None)):
        changed = array.copy()
        changed.ravel()[places] += 0.01
        true = np.linalg.norm(changed - array) / np.linalg.norm(array)
        assert 0.6 * true < relative_difference(golden, "w", changed) < 1.6 * true
    assert relative_difference(golden, "w", array) < 1e-12


def test_the_penalty_gradient_equals_finite_differences(model, batch):
    model = model.double()
    batch.images, batch.masks = batch.images.double(), batch.masks.double()
    objectives = {"gradmask": GradMask(1.0)}
    weight = model.net.blocks[0].mlp.fc1.weight
    compute_loss(model, model, batch, objectives).scaled(Share.whole(batch)).backward()
    place = np.unravel_index(int(weight.grad.abs().argmax()), weight.shape)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[place] += sign * 1e-4
        values.append(float(compute_loss(model, model, batch, objectives).means.detach()))
        with torch.no_grad():
            weight[place] -= sign * 1e-4
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(float(weight.grad[place]), rel=1e-2)


def test_rows_without_a_mask_do_not_count(model, batch):
    alone = compute_loss(model, model, batch.rows(0, 1), {"relevance": Relevance()})
    batch.has_mask = torch.tensor([True, False, False])
    mixed = compute_loss(model, model, batch, {"relevance": Relevance()})
    assert float(mixed.means.detach()) == pytest.approx(float(alone.means.detach()), rel=1e-5)
    batch.has_mask = torch.zeros(3, dtype=torch.bool)
    none = compute_loss(model, model, batch, {"relevance": Relevance(), "rrr": GradMask()})
    assert float(none.means.detach()) == 0.0
    none.scaled(Share.whole(batch)).backward()


def test_foreground_share_is_the_share():
    maps = torch.tensor([[[[1.0, 3.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    masks = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    assert foreground_share(maps, masks).tolist() == [0.75, 0.0]


def test_pictures_without_labels_need_a_prediction_target(model, batch):
    batch.labels = torch.full((3,), -1)
    with pytest.raises(VitreousError, match="have no labels"):
        compute_loss(model, model, batch, {"relevance": Relevance()})
    objectives = {"relevance": Relevance(target="prediction")}
    assert "accuracy" not in compute_loss(model, model, batch, objectives).figures
