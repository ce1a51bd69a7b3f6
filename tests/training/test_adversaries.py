"""Adversaries of the training step."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.projection import largest_difference, load, relative_difference, sample
from golden.shrink import first_noise
from vitreous.attacks.gradient import LostGradientWarning
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.training.adversaries import ADVERSARIES
from vitreous.training.adversaries.fgsm import FGSM, NoisyFGSM
from vitreous.training.adversaries.pgd import PGD

EPSILON = 8 / 255


@pytest.fixture
def classifier() -> Classifier:
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GELU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    return Classifier(net)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 3, 16, 16)


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def test_published_training_is_repeated_number_by_number() -> None:
    """Three batches, the last one short, with the perturbation carried over, and Adam."""
    golden = load("fast_adversarial_training")
    meta = json.loads(str(golden["meta"]))
    net = timm.create_model(
        "vit_base_patch16_224",
        embed_dim=meta["embed_dim"],
        depth=meta["depth"],
        num_heads=meta["num_heads"],
        num_classes=meta["num_classes"],
    )
    net.load_state_dict({k[2:]: torch.tensor(golden[k]) for k in golden if k[:2] == "w/"})
    model = Classifier(net, meta["mean"], meta["std"])
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=meta["weight_decay"])
    adversary = FGSM(epsilon=2 / 255, step_size=2.5 / 255, random_start=False)
    assert largest_difference(golden, "noise0", first_noise()) < 1e-9
    state = {"perturbation": torch.tensor(first_noise())}
    model.train()
    for index, rate in enumerate(np.linspace(8e-5, 2e-4, 3, endpoint=False)):
        optimizer.param_groups[0]["lr"] = float(rate)
        images = torch.tensor(golden[f"image{index}_uint8"]).float() / 255
        labels = torch.tensor(golden[f"y{index}"])
        perturbed = adversary(model, images, labels, state, index / 3)
        assert all(p.grad is None for p in model.parameters())
        F.cross_entropy(model(perturbed), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    noise = state["perturbation"].numpy()
    difference = np.abs(sample(noise) - golden["sample/noise_after"])
    assert (difference > 1e-6).mean() < 1e-4
    assert relative_difference(golden, "noise_after", noise) < 1e-2  # a sign or two may differ
    after = [k.removeprefix("sample/after/") for k in golden if k.startswith("sample/after/")]
    assert len(after) == 5
    for name in after:
        weight = net.state_dict()[name].numpy()
        assert largest_difference(golden, f"after/{name}", weight) < 1e-5, name
        assert relative_difference(golden, f"after/{name}", weight) < 1e-5, name


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", [FGSM, PGD])
def test_the_ball_and_the_range_are_kept(kind, norm, classifier, images) -> None:
    epsilon = EPSILON if norm == "linf" else 0.5
    adversary = kind(epsilon=epsilon, step_size=2 * epsilon, norm=norm)
    perturbed = adversary(classifier, images, LABELS, {}, 1.0)
    rows = (perturbed - images).flatten(1)
    size = rows.abs().amax(1) if norm == "linf" else rows.norm(dim=1)
    assert (size <= epsilon + 1e-6).all() and (size > 0.2 * epsilon).all()
    assert perturbed.min() >= 0 and perturbed.max() <= 1
    assert not perturbed.requires_grad and all(p.grad is None for p in classifier.parameters())


def test_more_steps_raise_the_loss_more(classifier, images) -> None:
    def loss(adversary) -> float:
        perturbed = adversary(classifier, images, LABELS, {}, 1.0)
        return F.cross_entropy(classifier(perturbed), LABELS).item()

    clean = F.cross_entropy(classifier(images), LABELS).item()
    one = loss(FGSM(epsilon=EPSILON, step_size=0.5 * EPSILON))
    many = loss(PGD(epsilon=EPSILON, steps=20))
    assert clean < one < many


def test_fgsm_from_the_clean_picture_is_one_signed_step(classifier, images) -> None:
    images.requires_grad_()
    F.cross_entropy(classifier(images), LABELS).backward()
    expected = (images.detach() + EPSILON * images.grad.sign()).clamp(0, 1)
    found = PGD(epsilon=EPSILON, steps=1, step_size=EPSILON, random_start=False)(
        classifier, images.detach(), LABELS, {}, 1.0
    )
    torch.testing.assert_close(found, expected)


def test_noisy_fgsm_leaves_the_ball_by_its_noise_only(classifier, images) -> None:
    images = images * 0.5 + 0.25
    perturbed = NoisyFGSM(epsilon=EPSILON)(classifier, images, LABELS, {}, 1.0)
    size = (perturbed - images).abs().max()
    assert EPSILON < size <= 3 * EPSILON + 1e-6


@pytest.mark.parametrize("name", ["fgsm", "n_fgsm", "pgd"])
def test_epsilon_grows_during_the_warmup(name, classifier, images) -> None:
    images = images * 0.5 + 0.25
    adversary = ADVERSARIES[name](epsilon=EPSILON, warmup=0.5)
    sizes = [
        (adversary(classifier, images, LABELS, {}, progress) - images).abs().max().item()
        for progress in (0.0, 0.25, 0.5, 1.0)
    ]
    assert sizes[0] == pytest.approx(0, abs=1e-6)
    assert sizes[1] == pytest.approx(sizes[2] / 2, rel=0.1)
    assert sizes[2] == pytest.approx(sizes[3], rel=0.1)


def test_a_perturbation_is_carried_to_the_next_batch_and_short_batches_use_its_first_rows(
    classifier, images
) -> None:
    adversary = FGSM(epsilon=EPSILON, step_size=EPSILON / 4, random_start=False)
    state: dict[str, Tensor] = {}
    adversary(classifier, images, LABELS, state, 0.0)
    first = state["perturbation"].clone()
    adversary(classifier, images[:2], LABELS[:2], state, 0.0)
    second = state["perturbation"]
    assert torch.equal(second[2:], first[2:])
    assert (second[:2] - first[:2]).abs().max() == pytest.approx(EPSILON / 4, rel=1e-3)
    assert second.abs().max() == pytest.approx(EPSILON / 2, rel=1e-3)


def test_a_value_on_its_bound_has_no_gradient(classifier, images) -> None:
    """Clamp's own derivative there is 1 in some versions of torch and 0 in others."""
    images = images * 0.5 + 0.25
    images[:, :, :8] = torch.tensor([0.0, 1.0]).repeat(8)
    adversary = FGSM(epsilon=EPSILON, step_size=EPSILON, random_start=False)
    state: dict[str, Tensor] = {}
    adversary(classifier, images, LABELS, state, 0.0)
    moved = state["perturbation"].abs()
    assert (moved[:, :, :8] == 0).all()
    torch.testing.assert_close(moved[:, :, 8:], torch.full_like(moved[:, :, 8:], EPSILON))


def test_half_precision_scales_the_loss_of_the_attack(images) -> None:
    """Without the scale the gradient is below the least fp16 number and all signs are 0."""

    class Faint(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            sums = (images * 1e-3).half().flatten(1).split(384, 1)
            return torch.stack([s.sum(1) for s in sums], 1) * 1e-2

    state: dict[str, Tensor] = {}
    with torch.autocast("cpu", torch.float16):
        perturbed = PGD(epsilon=EPSILON, steps=1, random_start=False)(
            Faint(), images * 0.5 + 0.25, LABELS % 2, state, 1.0
        )
    assert ((perturbed - images * 0.5 - 0.25).abs() > EPSILON / 2).all()
    assert state["loss_scale"] >= 1


def test_an_overflow_halves_the_scale_and_loses_nothing(classifier, images) -> None:
    state = {"loss_scale": torch.tensor(2.0**40)}
    images = images * 0.5 + 0.25
    with torch.autocast("cpu", torch.float16):
        perturbed = FGSM(epsilon=EPSILON, step_size=2.5 * EPSILON)(
            classifier, images, LABELS, state, 1.0
        )
    assert 1 <= state["loss_scale"] < 2.0**40
    assert ((perturbed - images).abs() > 0.99 * EPSILON).float().mean() > 0.99


def test_pictures_without_labels_need_the_divergence(classifier, images) -> None:
    nothing = torch.full((6,), -1)
    with pytest.raises(VitreousError, match=r"set adversary.loss kl"):
        FGSM()(classifier, images, nothing, {}, 1.0)
    perturbed = FGSM(loss="kl", epsilon=EPSILON)(classifier, images, nothing, {}, 1.0)
    assert (perturbed - images).abs().max() > 0.9 * EPSILON


def test_a_gradient_that_is_not_finite_is_told(images) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images.flatten(1)[:, :5] - 2).sqrt()

    with pytest.warns(LostGradientWarning, match="not finite in 6 of 6 pictures"):
        perturbed = FGSM()(Broken(), images, LABELS, {}, 1.0)
    assert perturbed.isfinite().all()
