"""Gradient checkpointing changes what is held, and no number."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from helpers import TINY_CROSSVIT, TINY_MODEL
from vitreous.data.batch import Batch
from vitreous.errors import UnsupportedModelError
from vitreous.models import Classifier, attention_inputs, load_model
from vitreous.models.blocks import transformer_blocks
from vitreous.models.recomputation import recompute_blocks
from vitreous.training.adversaries.fgsm import FGSM
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.input_gradients import RightForTheRightReasons
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.step import Share, compute_loss

OBJECTIVES = {
    "classification": {"classification": Classification()},
    "relevance": {"classification": Classification(), "relevance": Relevance()},
    "second order": {"relevance": Relevance(second_order=True)},
    "RRR": {"rrr": RightForTheRightReasons()},
}
VIT = {**TINY_MODEL["options"], "depth": 4, "num_classes": 3, "img_size": 32}


def tiny(name: str = "vit_tiny_patch16_224", **options: Any) -> Classifier:
    chosen = options or VIT
    torch.manual_seed(1)
    net = timm.create_model(name, **chosen)
    for weight in net.parameters():  # heads of zeros would give no gradient
        nn.init.normal_(weight, std=0.15)
    return Classifier(net).train()


def batch(size: int = 32) -> Batch:
    masks = torch.zeros(4, 1, size, size)
    masks[:, :, 8:24, 8:24] = 1
    rows = torch.arange(4)
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(3))
    return Batch(images, rows % 3, masks, torch.tensor([True, True, False, True]), rows)


def gradients(model: Classifier, objectives: dict, adversary: FGSM | None = None) -> list[Tensor]:
    given = batch()
    torch.manual_seed(5)
    images = given.images
    if adversary is not None:
        images = adversary(model, given.images, given.labels, {}, 1.0)
    moved = Batch(images, given.labels, given.masks, given.has_mask, given.indices)
    loss = compute_loss(model, model, moved, objectives)
    loss.scaled(Share.whole(given)).backward()
    none = torch.zeros(())
    return [none if p.grad is None else p.grad for p in model.parameters()] + [images]


def compare(model: Classifier, objectives: dict, adversary: FGSM | None = None) -> None:
    other = copy.deepcopy(model)
    recompute_blocks(other)
    calls = count_calls(other)
    plain, recomputed = (gradients(m, objectives, adversary) for m in (model, other))
    assert sum(float(g.abs().sum()) for g in plain[:-1]) > 0
    for first, second in zip(plain, recomputed):
        torch.testing.assert_close(second, first, atol=1e-6, rtol=0)
    passes = 2 if adversary is not None else 1
    assert all(count > passes for count in calls), calls


def count_calls(model: Classifier) -> list[int]:
    """How often each block but the last is computed; filled in as it goes."""
    blocks = list(transformer_blocks(model).values())[:-1]  # a hook on the last has it whole
    calls = [0] * len(blocks)

    def counted(place: int):
        def hook(*_: object) -> None:
            calls[place] += 1

        return hook

    for place, block in enumerate(blocks):
        part = next(part for part in block.modules() if isinstance(part, nn.LayerNorm))
        part.register_forward_pre_hook(counted(place))
    return calls


@pytest.mark.parametrize("inputs", [False, True], ids=["maps", "inputs of maps"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradients_are_those_without(name: str, inputs: bool, monkeypatch) -> None:
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1 if inputs else 512)
    compare(tiny(), OBJECTIVES[name])


@pytest.mark.parametrize("inputs", [False, True], ids=["maps", "inputs of maps"])
def test_the_adversary_and_its_step_are_those_without(inputs: bool, monkeypatch) -> None:
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1 if inputs else 512)
    compare(tiny(), OBJECTIVES["relevance"], FGSM(epsilon=0.05, step_size=0.02))


@pytest.mark.parametrize("inputs", [False, True], ids=["maps", "inputs of maps"])
def test_frozen_blocks_and_dropout_are_computed_again_as_they_were(inputs, monkeypatch) -> None:
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1 if inputs else 512)
    model = tiny("vit_tiny_patch16_224", **VIT, proj_drop_rate=0.3, drop_path_rate=0.3)
    for name, weight in model.net.named_parameters():
        weight.requires_grad_(not name.startswith(("patch_embed", "blocks.0", "cls", "pos")))
    compare(model, OBJECTIVES["relevance"])


def test_crossvit_and_a_model_of_hugging_face() -> None:
    options = {**TINY_CROSSVIT, "depth": ((1, 1, 0), (1, 1, 0)), "num_classes": 3, "img_size": 32}
    compare(tiny("crossvit_9_240", **options), OBJECTIVES["relevance"])
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=48,
        num_labels=3,
    )
    compare(
        load_model(transformers.ViTForImageClassification(config)).train(),
        {"relevance": Relevance(), "classification": Classification()},
    )


def test_names_of_weights_and_a_copy_are_its_own() -> None:
    model = tiny()
    names = list(model.state_dict())
    recompute_blocks(model)
    assert list(model.state_dict()) == names
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    assert not other(batch().images).any() and model(batch().images).any()


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="no blocks with attention"):
        recompute_blocks(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))))
