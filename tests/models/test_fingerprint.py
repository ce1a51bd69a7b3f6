"""Everything that a model's answer depends on is in its fingerprint, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from vitreous import Classifier, load_model
from vitreous.models.fingerprint import model_fingerprint

SMALL = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 6}


def make(**options) -> Classifier:
    torch.manual_seed(0)
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, image_size=32, **{**SMALL, **options}
    )
    with torch.no_grad():
        model.net.load_state_dict({k: torch.full_like(v, 0.1) for k, v in _state(model).items()})
    return model


def _state(model: Classifier) -> dict[str, torch.Tensor]:
    return model.net.state_dict()


def negate_head(model: Classifier) -> None:
    for value in model.net.head.parameters():
        value.data.neg_()


def shift_a_weight_against_another(model: Classifier) -> None:
    """The sum of all absolute weights stays."""
    weight = model.net.blocks[0].mlp.fc1.weight.data
    weight[0, 0] += 0.05
    weight[0, 1] -= 0.05


def add_a_hidden_buffer(model: Classifier) -> None:
    model.net.register_buffer("scale", torch.ones(1), persistent=False)


MUTATIONS: dict[str, Callable[[Classifier], object]] = {
    "a negated head": negate_head,
    "two weights": shift_a_weight_against_another,
    "a buffer that no checkpoint holds": add_a_hidden_buffer,
    "mean": lambda m: m.mean.add_(0.01),
    "std": lambda m: m.std.add_(0.01),
    "half precision": lambda m: m.net.half(),
    "an epsilon": lambda m: setattr(m.net.norm, "eps", 0.5),
    "a scale of attention": lambda m: setattr(m.net.blocks[1].attn, "scale", 0.3),
    "another activation": lambda m: setattr(m.net.blocks[1].mlp, "act", torch.nn.ReLU()),
    **{
        f"preprocessing {name}": lambda m, name=name, value=value: setattr(
            m, "preprocessing", dataclasses.replace(m.preprocessing, **{name: value})
        )
        for name, value in {
            "size": (32, 40),
            "crop_ratio": 0.5,
            "interpolation": "nearest",
            "crop_mode": "squash",
            "decoding": "reduced",
        }.items()
    },
}


@pytest.mark.parametrize("ingredient", MUTATIONS)
def test_each_ingredient_changes_the_fingerprint(ingredient: str) -> None:
    model = make()
    before = model_fingerprint(model)
    MUTATIONS[ingredient](model)
    assert model_fingerprint(model) != before


@pytest.mark.parametrize(
    "options", [{"num_heads": 3}, {"global_pool": "avg", "fc_norm": False}, {"num_heads": 2}]
)
def test_arguments_that_change_no_weight_change_the_fingerprint(options) -> None:
    first, second = make(), make(**options)
    assert all(torch.equal(v, _state(second)[k]) for k, v in _state(first).items())
    assert model_fingerprint(first) != model_fingerprint(second)


def test_names_modes_and_fused_attention_do_not_matter() -> None:
    model = make()
    before = model_fingerprint(model)
    model.name = "another"
    model.train()
    for block in model.net.blocks:
        block.attn.fused_attn = not block.attn.fused_attn
    assert model_fingerprint(model) == before == model_fingerprint(make())


def test_registered_hooks_do_not_matter() -> None:
    model = make()
    before = model_fingerprint(model)
    layer = model.net.blocks[0].attn
    layer.register_forward_hook(lambda *_: None)
    layer.register_forward_pre_hook(lambda *_: None)
    layer.register_full_backward_hook(lambda *_: None)
    layer.register_state_dict_post_hook(lambda *_: None)
    assert model_fingerprint(model) == before


def test_private_settings_matter() -> None:
    model = make()
    before = model_fingerprint(model)
    model.net._scale = 2.0
    assert model_fingerprint(model) != before
