"""Sparing the last block what no head reads: same numbers, and when it must stay whole."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vitreous
from vitreous.attacks import PGD
from vitreous.attribution import METHODS
from vitreous.models.head_tokens import HeadTokensBlock, head_tokens_only
from vitreous.training.adversaries.fgsm import FGSM

TINY = dict(pretrained=False, img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3)
KINDS = {
    "plain": ("vit_tiny_patch16_224", {}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "registers": ("vit_tiny_patch16_224", dict(reg_tokens=2, qk_norm=True, init_values=0.3)),
    "no qkv bias": ("vit_tiny_patch16_224", dict(qkv_bias=False)),
}


def model(kind: str = "plain", **options) -> vitreous.Classifier:
    name, settings = KINDS[kind]
    classifier = vitreous.load_model(name, num_classes=5, **{**TINY, **settings, **options})
    for parameter in classifier.parameters():  # larger weights: attention far from uniform
        parameter.data.mul_(4.0 if parameter.ndim > 1 else 1.0)
    return classifier.double()


def random_images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 32, 32, dtype=torch.float64)


def passes(classifier: vitreous.Classifier, images: Tensor) -> list[Tensor]:
    """Logits, and the gradients of a loss for the pictures and for every weight."""
    variable = images.clone().requires_grad_()
    logits = classifier(variable)
    loss = F.cross_entropy(logits, torch.arange(len(images)))
    wanted = [variable, *classifier.parameters()]
    return [logits, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_all_gradients_are_those_of_the_whole_block(kind, recorded):
    classifier, images = model(kind), random_images()
    whole = passes(classifier, images)
    with head_tokens_only(classifier):
        assert type(classifier.net.blocks[-1]) is HeadTokensBlock
        if recorded:
            with vitreous.record_attention(classifier) as trace:
                spared = passes(classifier, images)
            assert trace.maps[-1].shape[2] < trace.maps[0].shape[2]
        else:
            spared = passes(classifier, images)
    for one, other in zip(whole, spared):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", [*METHODS])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_the_whole_block(kind, method):
    classifier, images = model(kind), random_images()
    spared = vitreous.relevance(classifier, images, method=method)
    classifier.net.blocks[-1].register_forward_hook(lambda *_: None)  # keeps the block whole
    whole = vitreous.relevance(classifier, images, method=method)
    torch.testing.assert_close(spared, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", [*METHODS])
def test_a_loss_of_second_order_maps_has_the_gradients_of_the_whole_block(method):
    classifier, images = model(), random_images()
    weights = list(classifier.parameters())

    def gradients() -> tuple[Tensor | None, ...]:
        maps = vitreous.relevance(classifier, images, method=method, second_order=True)
        return torch.autograd.grad((maps[:, :, :16] ** 2).sum(), weights, allow_unused=True)

    spared = gradients()
    classifier.net.blocks[-1].register_forward_hook(lambda *_: None)
    for one, other in zip(spared, gradients()):
        zero = torch.zeros(1, dtype=torch.float64)
        one, other = (zero if g is None else g for g in (one, other))
        torch.testing.assert_close(one + 0 * other, other + 0 * one, rtol=1e-7, atol=1e-9)


def hooked(classifier: vitreous.Classifier) -> vitreous.Classifier:
    classifier.net.blocks[-1].mlp.register_forward_hook(lambda *_: None)
    return classifier


def checkpointed(classifier: vitreous.Classifier) -> vitreous.Classifier:
    classifier.net.set_grad_checkpointing()
    return classifier


class OwnAttention(nn.Module):
    def forward(self, x: Tensor, attn_mask=None, is_causal: bool = False) -> Tensor:
        return x.mean(1, keepdim=True).expand_as(x)


def own_attention(classifier: vitreous.Classifier) -> vitreous.Classifier:
    classifier.net.blocks[-1].attn = OwnAttention()
    return classifier


@pytest.mark.parametrize(
    "classifier",
    [
        pytest.param(lambda: model(global_pool="avg"), id="patches are pooled"),
        pytest.param(lambda: model(global_pool="map", class_token=False), id="attention pools"),
        pytest.param(lambda: hooked(model()), id="somebody's hook"),
        pytest.param(lambda: checkpointed(model()), id="gradient checkpointing"),
        pytest.param(lambda: own_attention(model()), id="another attention"),
        pytest.param(lambda: vitreous.Classifier(nn.Flatten()), id="another family"),
    ],
)
def test_it_stays_whole_where_sparing_would_change_more(classifier):
    found = classifier()
    kinds = [type(part) for part in found.modules()]
    with head_tokens_only(found):
        assert [type(part) for part in found.modules()] == kinds


def test_an_outer_recording_sees_whole_maps():
    classifier, images = model(), random_images()
    with vitreous.record_attention(classifier) as trace:
        vitreous.relevance(classifier, images)
    tokens = 1 + 16
    assert [tuple(one.shape[2:]) for one in trace.maps] == [(tokens, tokens)] * 3


def test_the_model_is_as_before_also_after_an_exception():
    classifier, images = model(), random_images()
    before = copy.deepcopy(classifier.state_dict())
    attributes = set(vars(classifier.net.blocks[-1]))
    with pytest.raises(KeyError), head_tokens_only(classifier), head_tokens_only(classifier.net):
        classifier(images)
        raise KeyError
    block = classifier.net.blocks[-1]
    assert type(block) is type(classifier.net.blocks[0])
    assert set(vars(block)) == attributes
    assert (
        classifier.net.forward_features(classifier(images).new_zeros(1, 3, 32, 32)).shape[1] == 17
    )
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())


def test_adversary_and_attack_find_the_same_pictures():
    classifier, images = model(), random_images()
    labels = torch.arange(3)

    def find() -> list[Tensor]:
        torch.manual_seed(3)
        found = [FGSM(epsilon=0.1, loss="kl")(classifier, images, labels, {}, 0.5)]
        return [*found, PGD(epsilon=0.02, steps=5, early_stop=False)(classifier, images, labels)]

    spared = find()
    classifier.net.blocks[-1].register_forward_hook(lambda *_: None)
    for one, other in zip(spared, find()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
