"""Shares of a batch add up to the batch: losses, draws, and what an adversary remembers."""

from __future__ import annotations

import pytest
import torch

from helpers import TINY_MODEL
from vitreous.attacks.norms import random_start
from vitreous.attacks.randomness import shared_draws
from vitreous.data.batch import Batch
from vitreous.models import Classifier, load_model
from vitreous.training.adversaries.shares import own_state, whole_state
from vitreous.training.objectives import Objective
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.input_gradients import GradMask, RightForTheRightReasons
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.step import Share, compute_loss

OBJECTIVES: list[Objective] = [Relevance(), GradMask(), RightForTheRightReasons(weight=0.01)]


@pytest.fixture
def model() -> Classifier:
    options = TINY_MODEL["options"]
    return load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=3, image_size=32, **options
    )


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("processes", [2, 4])
def test_gradients_of_shares_with_masks_for_some_are_those_of_the_batch(
    objective, processes, model
):
    masks = torch.zeros(5, 1, 32, 32)
    masks[:, :, 8:24, 8:24] = 1
    has_mask, rows = torch.tensor([True, False, True, False, False]), torch.arange(5)
    batch = Batch(torch.rand(5, 3, 32, 32), rows % 3, masks, has_mask, rows)
    objectives = {"classification": Classification(), "other": objective}
    compute_loss(model, model, batch, objectives).scaled(Share.whole(batch)).backward()
    whole = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for rank in range(processes):
        places = list(range(rank, 5, processes))
        own = Batch(*(v[places] for v in vars(batch).values() if v is not None))
        share = Share(len(places), 5, 2, processes)
        (compute_loss(model, model, own, objectives).scaled(share) / processes).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rows_draw_what_they_draw_in_the_whole_batch(norm):
    images = torch.zeros(5, 3, 8, 8)
    torch.manual_seed(3)
    expected = random_start(images, 0.1, norm)
    for rows in ([0, 2, 4], [1, 3]):
        with shared_draws(rows, 5, 3, torch.device("cpu")):
            own = random_start(images[rows], 0.1, norm)
        assert torch.equal(own, expected[rows])


@pytest.mark.parametrize("before", [1, 2, 4])
@pytest.mark.parametrize("after", [1, 3])
def test_another_number_of_processes_goes_on_with_the_same_perturbation(before, after):
    kept = {"perturbation": torch.rand(5, 3, 2, 2), "loss_scale": torch.tensor(8.0)}
    shares = [own_state(kept, rank, before) for rank in range(before)]
    whole = whole_state(shares)
    for rank in range(after):
        own = own_state(whole, rank, after)
        assert torch.equal(own["perturbation"], kept["perturbation"][rank::after])
        assert own["loss_scale"] == 8
    assert whole_state([{}, {}]) == {}
