"""Relevance from queries, keys and values is that from recorded maps, in every family."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import vitreous
from vitreous import Classifier, load_model
from vitreous.attribution.compute import recorded_pass
from vitreous.attribution.maps import min_max
from vitreous.attribution.methods import GradientAttention
from vitreous.models import attention_inputs
from vitreous.models.attention_inputs import can_record_inputs
from vitreous.models.families import layout_of
from vitreous.models.forward import record_forward

SMALL = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
CROSSED = {
    "embed_dim": (24, 48),
    "num_heads": (3, 3),
    "depth": ((1, 2, 1), (2, 1, 1)),
    "patch_size": (6, 8),
    "img_scale": (0.75, 1.0),
}
FAMILIES = {
    "crossed": ("crossvit_tiny_240", CROSSED),
    "crossed twice": ("crossvit_tiny_240", {**CROSSED, "depth": ((1, 1, 2), (1, 2, 0))}),
    "vit": ("vit_tiny_patch16_224", SMALL),
    "distilled": ("deit_tiny_distilled_patch16_224", SMALL),
    "registers": ("vit_tiny_patch16_224", {**SMALL, "reg_tokens": 4}),
    "average": ("vit_tiny_patch16_224", {**SMALL, "global_pool": "avg"}),
    "query norm": ("vit_tiny_patch16_224", {**SMALL, "qk_norm": True}),
    "pooled": ("vit_base_patch16_siglip_224", SMALL),
    "rotary": ("eva02_tiny_patch14_224", {**SMALL, "embed_dim": 48}),
}


def make(family: str) -> Classifier:
    torch.manual_seed(3)
    name, options = FAMILIES[family]
    return load_model(name, pretrained=False, image_size=32, num_classes=5, **options)


def maps(classifier: Classifier, images: Tensor, *, inputs: bool, start: int = 0) -> Tensor:
    made = record_forward(classifier, images, attention=True, inputs_suffice=inputs)
    assert bool(made.inputs) == inputs
    classes = torch.arange(len(images))
    layout = layout_of(classifier.net, (32, 32))
    recorded = recorded_pass(made, classes, layout, start)
    scaled, _ = min_max(GradientAttention()(recorded))
    return scaled


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_and_their_weight_gradients_are_those_of_recorded_maps(family, start) -> None:
    classifier, images = make(family).double(), torch.rand(3, 3, 32, 32).double()
    outer = torch.randn(3, 1, 32, 32).double()
    results = []
    for inputs in (False, True):
        classifier.zero_grad()
        found = maps(classifier, images, inputs=inputs, start=start)
        (found * outer).sum().backward()
        gradients = {n: p.grad for n, p in classifier.named_parameters() if p.grad is not None}
        results.append((found.detach(), gradients))
    (expected, wanted), (values, gradients) = results
    assert expected.std() > 0.01
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-10)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-6, atol=1e-10, msg=name)


def test_frozen_weights_and_inference_mode_have_maps_too() -> None:
    classifier, images = make("vit"), torch.rand(2, 3, 32, 32)
    expected = vitreous.relevance(classifier, images, 1)
    classifier.requires_grad_(False)
    torch.testing.assert_close(vitreous.relevance(classifier, images, 1), expected)
    with torch.inference_mode():
        torch.testing.assert_close(vitreous.relevance(classifier, images, 1), expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("beit_base_patch16_224", {**SMALL, "use_rel_pos_bias": True}),
        ("crossvit_tiny_240", {"attn_drop_rate": 0.5}),
        ("vit_tiny_patch16_224", {**SMALL, "attn_drop_rate": 0.5}),
    ],
)
def test_attention_that_is_more_than_the_kernel_is_recorded_as_maps(name, options) -> None:
    model = load_model(name, pretrained=False, num_classes=5, **options)
    model.train()
    assert not can_record_inputs(model)
    size = model.preprocessing.size
    made = record_forward(model, torch.rand(1, 3, *size), attention=True, inputs_suffice=True)
    assert made.trace is not None and made.trace.maps and not made.inputs


def test_a_layer_that_takes_another_way_is_noticed() -> None:
    """One layer that does not call the kernel: whole maps are recorded in a second pass."""
    classifier = make("vit")
    attention = classifier.net.blocks[1].attn
    attention.forward = lambda x, **_: attention.proj(x)
    made = record_forward(classifier, torch.rand(1, 3, 32, 32), attention=True, inputs_suffice=True)
    assert not made.inputs and made.trace is not None


class Largest(TorchDispatchMode):
    """Numbers of the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.numbers = max(self.numbers, value.numel())
        return result


@pytest.mark.parametrize("differentiable", [False, True])
def test_no_attention_map_is_ever_formed(differentiable, monkeypatch) -> None:
    monkeypatch.setattr("vitreous.attribution.blockwise.propagate_blockwise.__defaults__", (2**14,))
    options = {"patch_size": 2, "embed_dim": 24, "depth": 2, "num_heads": 3}
    classifier = load_model("vit_tiny_patch16_224", pretrained=False, image_size=64, **options)
    images, tokens = torch.rand(1, 3, 64, 64), 32 * 32 + 1
    with Largest() as whole:
        vitreous.relevance(classifier, images, method="rollout")
    with Largest() as largest:
        made = vitreous.relevance(classifier, images, differentiable=differentiable)
        if differentiable:
            made.square().sum().backward()
    # the widest activation: four times the width, or the head's thousand classes
    assert largest.numbers <= tokens * 24 * 4 < tokens**2 <= whole.numbers


def test_trained_from_inputs_or_from_maps_the_step_is_the_same() -> None:
    from vitreous.data.batch import Batch
    from vitreous.training.objectives.classification import Classification
    from vitreous.training.objectives.relevance import Relevance
    from vitreous.training.step import Share, compute_loss

    @dataclasses.dataclass(frozen=True)
    class FromMaps(Relevance):
        @property
        def needs(self) -> frozenset[str]:
            return frozenset({"masks", "attention"})

    masks = torch.zeros(3, 1, 32, 32)
    masks[..., 8:24, 8:24] = 1
    known = torch.ones(3, dtype=torch.bool)
    batch = Batch(torch.rand(3, 3, 32, 32), torch.arange(3), masks, known, torch.arange(3))
    gradients = []
    for relevance in (Relevance(), FromMaps()):
        classifier = make("vit").train()
        objectives = {"classification": Classification(), "relevance": relevance}
        loss = compute_loss(classifier, classifier, batch, objectives)
        loss.scaled(Share.whole(batch)).backward()
        gradients.append({n: p.grad for n, p in classifier.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-7, msg=name)


def saved_numbers(classifier: Classifier, images: Tensor, **options: bool) -> int:
    """Numbers that the graph of a recorded pass holds, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in classifier.parameters()}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = record_forward(classifier, images, attention=True, inputs_suffice=True, **options)
    assert made.inputs and made.logits.requires_grad  # alive until here: no storage is used twice
    return sum(held.values())


def test_a_pass_for_maps_alone_holds_less_and_leaves_the_weights_as_they_are() -> None:
    classifier, images = make("average"), torch.rand(2, 3, 32, 32)
    all_of_it = saved_numbers(classifier, images)
    assert saved_numbers(classifier, images, weight_gradients=False) < 0.75 * all_of_it
    made = record_forward(
        classifier, images, attention=True, inputs_suffice=True, weight_gradients=False
    )
    made.logits.sum().backward()
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())


@pytest.mark.parametrize("keep", [False, True])
def test_relevance_is_the_same_on_either_side_of_the_number_of_tokens(
    keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, images = make("rotary").double(), torch.rand(2, 3, 32, 32).double()
    outer = torch.randn(2, 1, 32, 32).double()
    results = []
    for least in (1, 10**6):
        monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", least)
        values = vitreous.relevance(classifier, images, 1, differentiable=keep)
        classifier.zero_grad()
        if keep:
            (values * outer).sum().backward()
        results.append((values.detach(), [p.grad for p in classifier.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-10)
    reached = [ours is not None for ours in results[0][1]]
    assert any(reached) == keep and reached == [theirs is not None for theirs in results[1][1]]
    for ours, theirs in zip(results[0][1], results[1][1]):
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-10)
