"""Methods that carry relevance through the whole network: lxt, conservation, brute force."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vitreous
from converted import CLASSES, DEPTH, HEADS, PATCH, SIZE, WIDTH, seeded, timm_twin
from golden.other_attributions import TARGET
from golden.other_attributions import test_images as golden_images
from vitreous import Classifier
from vitreous.attribution.attn_lrp import ATTN_LRP, CP_LRP, AttnLRP, relevance_rules
from vitreous.attribution.base import METHODS, RecordedPass
from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.models.attention import AttentionTrace

FILE = Path(__file__).parents[1] / "golden" / "lxt_attributions.npz"
WHOLE = ("attn_lrp", "cp_lrp", "transformer_attribution")


def recorded(classifier: Classifier, images: Tensor) -> RecordedPass:
    def score(logits: Tensor) -> Tensor:
        return logits[:, TARGET]

    return RecordedPass(
        images, torch.zeros(()), AttentionTrace(), None, classifier=classifier, score_of=score
    )


@pytest.mark.parametrize(("name", "rules"), [("attn_lrp", ATTN_LRP), ("cp_lrp", CP_LRP)])
def test_attributions_are_those_of_lxt(name, rules) -> None:
    with np.load(FILE) as arrays:
        golden = torch.from_numpy(arrays[name])
    classifier = Classifier(timm_twin())
    made = AttnLRP(name, rules).attributions(recorded(classifier, golden_images()))
    assert golden.std() > 0.005
    torch.testing.assert_close(made, golden, rtol=0, atol=1e-4 * float(golden.abs().max()))
    pooled = F.avg_pool2d(golden.sum(1, keepdim=True), PATCH).relu()
    expected = F.interpolate(pooled, size=(SIZE, SIZE), mode="bilinear")
    low, high = expected.amin((1, 2, 3), True), expected.amax((1, 2, 3), True)
    maps = vitreous.relevance(classifier, golden_images(), TARGET, name)
    torch.testing.assert_close(maps, (expected - low) / (high - low), rtol=0, atol=1e-4)


def test_relevance_is_conserved_where_attention_is_a_constant() -> None:
    """All numbers that enter (pixels, tokens, biases) sum to the logit under CP-LRP's rules."""
    net = timm_twin().double()
    images = golden_images().double().requires_grad_()
    kinds = ("bias", "cls_token", "pos_embed")
    leaves = [p for name, p in net.named_parameters() if name.endswith(kinds)]
    with relevance_rules(net, CP_LRP):
        score = net(images)[:, TARGET].sum()
        gradients = torch.autograd.grad(score, [images, *leaves])
    total = sum((x * g).sum() for x, g in zip([images, *leaves], gradients))
    torch.testing.assert_close(total, score, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", WHOLE)
def test_the_network_is_exactly_as_it_was(method) -> None:
    net = timm_twin()
    before, state = net(golden_images()), copy.deepcopy(net.state_dict())
    methods = {type(m).forward for m in net.modules()}
    vitreous.relevance(Classifier(net), golden_images(), TARGET, method)
    assert torch.equal(net(golden_images()), before)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    for module in net.modules():
        assert not (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
        assert "forward" not in vars(module)
    assert methods == {type(m).forward for m in net.modules()}
    assert all(block.attn.fused_attn for block in net.blocks)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("rules", [ATTN_LRP, CP_LRP])
def test_rules_leave_the_logits_as_they_are(rules) -> None:
    net = timm_twin().double()
    before = net(golden_images().double())
    with relevance_rules(net, rules):
        torch.testing.assert_close(net(golden_images().double()), before, rtol=1e-8, atol=1e-8)


class BruteForce:
    """Layer-wise propagation with every contribution written out, for one image in float64."""

    def __init__(self, net: nn.Module, image: Tensor, direction: Tensor):
        self.net, self.trace = net.double(), []
        self.logits = self.forward((image.double()[None] - 0.5) / 0.5)
        (self.logits @ direction.double()).sum().backward()
        self.start = direction.double()

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        x = net.norm_pre(net._pos_embed(net.patch_embed(x)))
        for block in net.blocks:
            normed = block.norm1(x)
            q, k, v = block.attn.qkv(normed).reshape(-1, 3, HEADS, WIDTH // HEADS).unbind(1)
            scores = torch.einsum("qhd,khd->hqk", q, k)
            attention = (scores * block.attn.scale).softmax(-1)
            attention.retain_grad()
            mixed = torch.einsum("hqk,khd->qhd", attention, v).flatten(1)[None]
            added = block.attn.proj(mixed)
            added = added * getattr(block.ls1, "gamma", 1.0)
            middle = x + added
            narrow = block.norm2(middle)
            wide = block.mlp.act(block.mlp.fc1(narrow))
            more = block.mlp.fc2(wide) * getattr(block.ls2, "gamma", 1.0)
            self.trace.append(
                dict(x=x, normed=normed, q=q, k=k, v=v, a=attention, mixed=mixed, added=added)
                | dict(middle=middle, narrow=narrow, wide=wide, more=more)
            )
            x = middle + more
        self.read = net.norm(x)[0, 0]
        return net.head(self.read)

    @staticmethod
    def linear(relevance: Tensor, values: Tensor, weight: Tensor) -> Tensor:
        """R_j = Σ_i [x_j w_ij]⁺ / Σ_j' [x_j' w_ij']⁺ R_i, all products in one array."""
        parts = (values[..., None, :] * weight).clamp(min=0)
        total = parts.sum(-1, keepdim=True)
        share = torch.where(total > 0, parts / total.where(total > 0, torch.ones(())), 0.0)
        return (share * relevance[..., None]).sum(-2)

    @staticmethod
    def added(relevance: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        first, second = left / (left + right) * relevance, right / (left + right) * relevance
        a, b, whole = first.sum(), second.sum(), relevance.sum()
        norm = a.abs() + b.abs()
        return first * (a.abs() / norm * whole / a), second * (b.abs() / norm * whole / b)

    def maps(self) -> list[Tensor]:
        """I + mean over heads of relu(gradient ∘ relevance), from the first block on."""
        net, mats = self.net, []
        relevance = torch.zeros_like(self.trace[0]["x"])
        relevance[0, 0] = self.linear(self.start, self.read, net.head.weight)
        for block, t in zip(reversed(net.blocks), reversed(self.trace)):
            skip, more = self.added(relevance, t["middle"], t["more"])
            more = self.linear(more, t["wide"], block.mlp.fc2.weight)
            relevance = skip + self.linear(more, t["narrow"], block.mlp.fc1.weight)
            skip, added = self.added(relevance, t["x"], t["added"])
            mixed = self.linear(added, t["mixed"], block.attn.proj.weight)
            mixed = mixed.reshape(-1, HEADS, WIDTH // HEADS)
            # every product a_hqk v_khd is a contribution to the output o_qhd
            parts = torch.einsum("hqk,khd->hqkd", t["a"], t["v"])
            share = parts / parts.sum(2, keepdim=True) * mixed.permute(1, 0, 2)[:, :, None]
            of_map, of_value = share.sum(3) / 2, share.sum(1).permute(1, 0, 2) / 2
            parts = torch.einsum("qhd,khd->hqkd", t["q"], t["k"])
            share = parts / parts.sum(3, keepdim=True) * of_map[..., None]
            of_query, of_key = share.sum(2).permute(1, 0, 2) / 2, share.sum(1).permute(1, 0, 2) / 2
            joint = torch.stack([of_query, of_key, of_value], 1).flatten(1)[None]
            relevance = skip + self.linear(joint, t["normed"], block.attn.qkv.weight)
            cam = (t["a"].grad * of_map).clamp(min=0).mean(0)
            mats.append(torch.eye(len(cam), dtype=cam.dtype) + cam)
        return mats[::-1]

    def row(self, start: int = 0) -> Tensor:
        """Row CLS of the product of whole matrices."""
        joint = torch.eye(len(self.trace[0]["x"][0]), dtype=torch.float64)
        for matrix in self.maps()[start:]:
            joint = matrix @ joint
        return joint[0, 1:].detach()


@pytest.mark.parametrize(
    ("options", "start"), [({}, 0), ({"init_values": 0.5}, 0), ({"reg_tokens": 2}, 1)]
)
def test_transformer_attribution_is_that_of_full_matrices(options, start) -> None:
    net, images = timm_twin(**options), golden_images()
    direction = torch.zeros(CLASSES)
    direction[TARGET] = 1.0
    maps = vitreous.relevance(
        Classifier(copy.deepcopy(net).double()),
        images.double(),
        TARGET,
        "transformer_attribution",
        start_layer=start,
    )
    side = SIZE // PATCH
    for image, made in zip(images, maps):
        row = BruteForce(copy.deepcopy(net), image, direction).row(start)[-(side**2) :]
        expected = F.interpolate(row.view(1, 1, side, side), size=(SIZE, SIZE), mode="bilinear")[0]
        expected = (expected - expected.min()) / (expected.max() - expected.min())
        assert expected.std() > 0.05
        torch.testing.assert_close(made.double(), expected, rtol=0, atol=1e-4)


def test_a_difference_of_two_classes_is_refused() -> None:
    with pytest.raises(VitreousError, match="transformer_attribution explains one class"):
        classifier = Classifier(timm_twin())
        vitreous.relevance(
            classifier, golden_images(), TARGET, "transformer_attribution", against=1
        )


def test_each_rule_of_transformer_attribution_hands_on_all_that_it_gets() -> None:
    from vitreous.attribution.transformer_attribution import (
        through_linear,
        through_product,
        through_sum,
    )

    random = torch.Generator().manual_seed(2)
    left, right, weight, relevance = (
        torch.randn(2, *shape, generator=random, dtype=torch.float64)
        for shape in ((7, 5), (7, 5), (4, 5), (7, 4))
    )
    carried = through_linear(relevance, left, weight[0])
    torch.testing.assert_close(carried.sum(), relevance.sum())
    out = torch.randn(2, 7, 7, generator=random, dtype=torch.float64)
    for part in through_product(out, left, right.mT):
        torch.testing.assert_close(part.sum(), out.sum() / 2, rtol=1e-5, atol=1e-5)
    parts = through_sum(left, right, left + 1)
    torch.testing.assert_close(sum(p.sum((1, 2)) for p in parts), left.sum((1, 2)))


@pytest.mark.parametrize("method", WHOLE)
@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}, "pools by 'avg'"),
        ("deit_tiny_distilled_patch16_224", {}, "VisionTransformerDistilled"),
        ("vit_giant_patch14_dinov2", {}, "GluMlp"),
        ("eva02_tiny_patch14_224", {}, "Eva"),
    ],
)
def test_networks_without_rules_are_refused_in_one_line(method, name, options, word) -> None:
    classifier = Classifier(timm_twin(name, **options))
    with pytest.raises(UnsupportedModelError, match=word) as error:
        vitreous.relevance(classifier, golden_images(), TARGET, method)
    assert "\n" not in str(error.value) and method in str(error.value)


@pytest.mark.parametrize("method", WHOLE)
def test_crossvit_is_refused_in_one_line(method) -> None:
    classifier = vitreous.load_model("crossvit_9_dagger_240", pretrained=False, num_classes=3)
    with pytest.raises(UnsupportedModelError, match="not for CrossVit"):
        vitreous.relevance(classifier, torch.rand(1, 3, 240, 240), method=method)


@pytest.mark.parametrize("method", WHOLE)
def test_registers_layer_scale_and_normed_queries_have_rules(method) -> None:
    net = seeded(timm_twin(reg_tokens=2, init_values=0.3, qk_norm=True))
    maps = vitreous.relevance(Classifier(net), golden_images(), TARGET, method)
    assert maps.std() > 0.05 and len(METHODS[method].needs) == 1 and len(net.blocks) == DEPTH
