"""Sparing the last block what no head reads: same numbers, and when it must stay whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vitreous
from helpers import TIMM_PLAIN
from vitreous.attacks import PGD
from vitreous.attribution import METHODS
from vitreous.models import head_tokens
from vitreous.models.forward import record_forward
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


def whole(classifier: vitreous.Classifier, images: Tensor) -> Tensor:
    """The oracle: the network called as timm wrote it."""
    return classifier.net((images - classifier.mean) / classifier.std)


def passes(forward, classifier: vitreous.Classifier, images: Tensor) -> list[Tensor]:
    """Logits, and the gradients of a loss for the images and for every weight."""
    variable = images.clone().requires_grad_()
    logits = forward(variable)
    loss = F.cross_entropy(logits, torch.arange(len(images)))
    wanted = [variable, *classifier.parameters()]
    return [logits, *torch.autograd.grad(loss, wanted)]


@pytest.fixture
def spared(monkeypatch) -> list[int]:
    """Tokens of each spared pass that is made."""
    made: list[int] = []
    real = head_tokens.logits_of_head_tokens

    def remember(net: nn.Module, x: Tensor, tokens: int) -> Tensor:
        made.append(tokens)
        return real(net, x, tokens)

    monkeypatch.setattr(head_tokens, "logits_of_head_tokens", remember)
    return made


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_all_gradients_are_those_of_the_network_itself(kind, recorded, training, spared):
    classifier, images = model(kind).train(training), random_images()
    expected = passes(lambda x: whole(classifier, x), classifier, images)
    assert not spared
    made = passes(
        lambda x: record_forward(classifier, x, attention=recorded).logits, classifier, images
    )
    assert spared == [2 if kind == "distilled" else 1]
    for one, other in zip(expected, made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_bfloat16_autocast_differs_by_its_rounding_only(spared):
    classifier, images = model().float(), random_images().float()
    with torch.autocast("cpu", torch.bfloat16):
        made, expected = classifier(images), whole(classifier, images)
    assert len(spared) == 1 and made.dtype == torch.bfloat16
    torch.testing.assert_close(made, expected, rtol=0.03, atol=0.03)


def test_a_compiled_classifier_gives_the_same_logits_and_gradients():
    classifier, images = model(), random_images()
    compiled = torch.compile(classifier, backend="aot_eager", fullgraph=True)
    expected = passes(lambda x: whole(classifier, x), classifier, images)
    for one, other in zip(expected, passes(compiled, classifier, images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", [*METHODS])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_the_whole_block(kind, method):
    classifier, images = model(kind), random_images()
    if kind == "distilled" and method in TIMM_PLAIN:
        with pytest.raises(vitreous.errors.UnsupportedModelError, match="Distilled"):
            vitreous.relevance(classifier, images, method=method)
        return
    made = vitreous.relevance(classifier, images, method=method)
    classifier.net.blocks[-1].register_forward_hook(lambda *_: None)  # keeps the block whole
    expected = vitreous.relevance(classifier, images, method=method)
    torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", [m for m in METHODS if "model" not in METHODS[m].needs])
def test_a_loss_of_second_order_maps_has_the_gradients_of_the_whole_block(method):
    classifier, images = model(), random_images()
    weights = list(classifier.parameters())

    def gradients() -> tuple[Tensor | None, ...]:
        maps = vitreous.relevance(classifier, images, method=method, second_order=True)
        return torch.autograd.grad((maps[:, :, :16] ** 2).sum(), weights, allow_unused=True)

    made = gradients()
    classifier.net.blocks[-1].register_forward_hook(lambda *_: None)
    for one, other in zip(made, gradients()):
        zero = torch.zeros(1, dtype=torch.float64)
        one, other = (zero if g is None else g for g in (one, other))
        torch.testing.assert_close(one + 0 * other, other + 0 * one, rtol=1e-7, atol=1e-9)


def hooked(place: str) -> vitreous.Classifier:
    classifier = model()
    classifier.net.get_submodule(place).register_forward_hook(lambda *_: None)
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


def own_forward(classifier: vitreous.Classifier) -> vitreous.Classifier:
    mlp = classifier.net.blocks[-1].mlp
    mlp.forward = lambda x: x * 0.0
    return classifier


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: model(global_pool="avg"), id="patches are pooled"),
        pytest.param(lambda: model(global_pool="map", class_token=False), id="attention pools"),
        pytest.param(lambda: hooked("blocks.2.mlp"), id="a hook inside the block"),
        pytest.param(lambda: hooked("blocks.2.attn.attn_drop"), id="a hook on the map"),
        pytest.param(lambda: hooked("blocks"), id="a hook on the blocks"),
        pytest.param(lambda: hooked("norm"), id="a hook after the block"),
        pytest.param(lambda: hooked(""), id="a hook on the network"),
        pytest.param(lambda: checkpointed(model()), id="gradient checkpointing"),
        pytest.param(lambda: own_attention(model()), id="another attention"),
        pytest.param(lambda: own_forward(model()), id="a forward of its own"),
    ],
)
def test_the_network_is_called_as_it_is_where_sparing_would_change_more(make, spared):
    classifier, images = make(), random_images()
    torch.testing.assert_close(classifier(images), whole(classifier, images), rtol=0, atol=0)
    assert not spared


def test_another_family_is_called_as_it_is(spared):
    classifier = vitreous.Classifier(nn.Flatten())
    assert classifier(torch.rand(2, 3, 4, 4)).shape == (2, 48) and not spared


def test_a_hook_on_an_earlier_block_sees_its_tokens_and_the_last_one_is_spared(spared):
    classifier = model()
    seen: list[tuple[int, ...]] = []
    classifier.net.blocks[1].register_forward_hook(lambda _, __, out: seen.append(out.shape))
    classifier(random_images())
    assert seen == [(3, 17, 24)] and spared == [1]


def test_hooks_on_every_module_see_the_whole_network(spared):
    classifier, seen = model(), []
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m)))
    try:
        classifier(random_images())
    finally:
        handle.remove()
    assert not spared and type(classifier.net) in seen


def test_an_outer_recording_sees_whole_maps():
    classifier, images = model(), random_images()
    with vitreous.record_attention(classifier) as trace:
        vitreous.relevance(classifier, images)
        classifier(images)
    tokens = 1 + 16
    assert [tuple(one.shape[2:]) for one in trace.maps] == [(tokens, tokens)] * 6


def test_a_recorded_layer_says_which_queries_it_holds():
    classifier, images = model("distilled"), random_images()
    layers = record_forward(classifier, images, attention=True).attention.layers
    with vitreous.record_attention(classifier) as trace:
        whole(classifier, images)
    tokens = 2 + 16
    assert [range(tokens)[one.queries] for one in layers] == [range(18), range(18), range(2)]
    for one, other in zip(layers, trace.layers, strict=True):
        assert one.name == other.name and range(tokens)[other.queries] == range(tokens)
        torch.testing.assert_close(one.map, other.map[:, :, one.queries], rtol=1e-10, atol=0)


def state_of(classifier: nn.Module) -> list[object]:
    return [
        (name, type(m), sorted(vars(m)), len(m._forward_hooks), getattr(m, "fused_attn", None))
        for name, m in classifier.named_modules()
    ]


@pytest.mark.parametrize("attention", [False, True])
def test_nothing_of_the_model_changes_within_a_pass_nor_after_an_exception(attention):
    classifier, images = model(), random_images()
    before, within = state_of(classifier), []

    def look(*_: object) -> None:
        within.append([(name, type(m), sorted(vars(m))) for name, m in classifier.named_modules()])
        raise KeyError

    handle = classifier.net.head.register_forward_hook(look)
    with pytest.raises(KeyError):
        record_forward(classifier, images, attention=attention)
    handle.remove()
    assert within == [[row[:3] for row in before]] and state_of(classifier) == before
    assert classifier.net.forward_features(images).shape[1] == 17


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_recording_keeps_its_graph_where_gradients_are_off(off):
    classifier, images = model(), random_images()
    with off():
        plain = record_forward(classifier, images)
        recorded = record_forward(classifier, images, attention=True)
        derived = record_forward(classifier, images.clone(), input_gradient=True)
    assert not plain.logits.requires_grad and plain.trace is None
    assert recorded.logits.requires_grad and len(recorded.attention.maps) == 3
    (gradient,) = torch.autograd.grad(derived.logits.sum(), derived.images)
    assert gradient.shape == images.shape and not images.requires_grad
    with pytest.raises(RuntimeError, match="was not recorded"):
        _ = plain.attention


def test_a_pass_for_input_gradients_can_be_derived_twice():
    classifier, images = model().float(), random_images().float()
    made = record_forward(classifier, images, input_gradient=True)
    (first,) = torch.autograd.grad(made.logits[:, 0].sum(), made.images, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), classifier.net.head.weight)
    assert second.abs().sum() > 0


def test_adversary_and_attack_find_the_same_pictures():
    classifier, images = model(), random_images()
    labels = torch.arange(3)

    def find() -> list[Tensor]:
        torch.manual_seed(3)
        found = [FGSM(epsilon=0.1, loss="kl")(classifier, images, labels, {}, 0.5)]
        return [*found, PGD(epsilon=0.02, steps=5, early_stop=False)(classifier, images, labels)]

    made = find()
    classifier.net.blocks[-1].register_forward_hook(lambda *_: None)
    for one, other in zip(made, find()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_three_modules_know_of_head_tokens():
    """The rest of the house asks for a pass and knows no more of it."""
    root = Path(vitreous.__file__).parent
    knowing = [p for p in root.rglob("*.py") if "head_tokens" in p.read_text()]
    names = sorted(p.relative_to(root).as_posix() for p in knowing)
    assert names == ["models/forward.py", "models/halved_pass.py", "models/head_tokens.py"]
