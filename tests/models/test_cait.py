"""CaiT: heads that are mixed behind the softmax, and a class token that reads the patches last."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

import vitreous
from converted import seeded
from vitreous import Classifier
from vitreous.attribution import METHODS
from vitreous.data.batch import Batch
from vitreous.errors import UnsupportedModelError
from vitreous.models.forward import record_forward
from vitreous.training.adversaries.fgsm import FGSM
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.step import Share, compute_loss

DEPTH, HEADS, GRID, SIDE = 3, 2, 4, 64
PATCHES, TARGET = GRID**2, 0
ATTENTION = [m for m in METHODS if "attention" in METHODS[m].needs and m != "rollout"]


def made(**options: Any) -> tuple[Classifier, Tensor]:
    settings = {
        "depth": DEPTH,
        "embed_dim": 24,
        "num_heads": HEADS,
        "img_size": SIDE,
        "num_classes": 3,
    }
    net = timm.create_model("cait_xxs24_224", **settings | options)
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64, generator=generator)
    return Classifier(seeded(net, 1.5)).double(), images


def brute_force(net: Any, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, and the maps of both parts, each with a gradient: from the weights alone."""
    patches, maps, class_maps = net.patch_embed(x) + net.pos_embed, [], []
    token = net.cls_token.expand(len(x), -1, -1)

    def heads(values: Tensor) -> Tensor:
        return values.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    for block in net.blocks:
        q, k, v = (heads(part) for part in block.attn.qkv(block.norm1(patches)).chunk(3, -1))
        scores = torch.einsum("bhqd,bhkd,gh->bgqk", q, k, block.attn.proj_l.weight)
        scores = scores * block.attn.scale + block.attn.proj_l.bias[:, None, None]
        mixed = torch.einsum("bhqk,gh->bgqk", scores.softmax(-1), block.attn.proj_w.weight)
        maps.append(mixed + block.attn.proj_w.bias[:, None, None])
        added = block.attn.proj((maps[-1] @ v).transpose(1, 2).flatten(2))
        patches = patches + block.gamma_1 * added
        patches = patches + block.gamma_2 * block.mlp(block.norm2(patches))
    for block in net.blocks_token_only:
        read = block.norm1(torch.cat([token, patches], 1))
        layer = block.attn
        q, k, v = heads(layer.q(read[:, :1])), heads(layer.k(read)), heads(layer.v(read))
        class_maps.append((q @ k.mT * layer.scale).softmax(-1))
        token = token + block.gamma_1 * layer.proj((class_maps[-1] @ v).transpose(1, 2).flatten(2))
        token = token + block.gamma_2 * block.mlp(block.norm2(token))
    tokens = net.norm(torch.cat([token, patches], 1))
    pooled = tokens[:, 1:].mean(1) if net.global_pool == "avg" else tokens[:, 0]
    return net.head(pooled), maps, class_maps


def as_matrix(cam: Tensor) -> Tensor:
    """A layer's weights (B, queries, keys) among all tokens: the class token and the patches."""
    count = 1 + PATCHES
    return F.pad(cam, (count - cam.shape[2], 0, count - PATCHES if cam.shape[1] > 1 else 0, 0))


def carried(cams: list[Tensor], start: Tensor, normalize: bool = False) -> Tensor:
    """Patches' part of the start row times the product of all (I + cam), layer by layer."""
    matrix = torch.eye(1 + PATCHES, dtype=torch.float64).expand(2, -1, -1)
    for cam in cams:
        full = F.pad(cam, (0, 0, 0, 1 + PATCHES - cam.shape[1])) if cam.shape[1] == 1 else cam
        step = torch.eye(1 + PATCHES, dtype=torch.float64) + full
        matrix = (step / step.sum(-1, keepdim=True) if normalize else step) @ matrix
    return (start @ matrix)[:, 1:]


def scaled(row: Tensor) -> Tensor:
    maps = F.interpolate(row.reshape(2, 1, GRID, GRID), size=(SIDE, SIDE), mode="bilinear")
    low, high = maps.amin((1, 2, 3), True), maps.amax((1, 2, 3), True)
    return (maps - low) / (high - low)


def expected(method: str, net: Any, x: Tensor) -> Tensor:
    logits, maps, class_maps = brute_force(net, x)
    gradients = torch.autograd.grad(logits[:, TARGET].sum(), maps + class_maps, allow_unused=True)
    both = [
        (a, torch.zeros_like(a) if g is None else g) for a, g in zip(maps + class_maps, gradients)
    ]
    start = torch.zeros(1 + PATCHES, dtype=torch.float64)
    if net.global_pool == "avg":
        start[1:] = 1 / PATCHES
    else:
        start[0] = 1
    if method == "gradient_attention":
        cams = [as_matrix((a * g).relu().mean(1)) for a, g in both]
        return scaled(carried(cams, start) - start[1:])
    if method == "gradient_rollout":
        cams = [as_matrix((a * g).mean(1).relu()) for a, g in both]
        return scaled(carried(cams, start, normalize=True) - start[1:])
    pooled = net.global_pool == "avg"
    last, gradient = both[DEPTH - 1] if pooled else both[-1]
    if pooled:
        last, gradient = last.mean(2), gradient.mean(2)
    else:
        last, gradient = last[:, :, 0, 1:], gradient[:, :, 0, 1:]
    if method == "raw_attention":
        return scaled(last.mean(1))
    return scaled((last * gradient.mean(-1, keepdim=True)).mean(1).relu())


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("method", ATTENTION)
def test_maps_are_those_of_full_matrices(method: str, pool: str) -> None:
    classifier, images = made(global_pool=pool)
    normed = (images - classifier.mean) / classifier.std
    logits, maps, _ = brute_force(classifier.net, normed)
    torch.testing.assert_close(classifier(images), logits, rtol=0, atol=1e-10)
    assert all((one < 0).any() for one in maps), "heads that are mixed have negative weights"
    values = vitreous.relevance(classifier, images, TARGET, method)
    wanted = expected(method, classifier.net, normed)
    assert values.std() > 0.05
    torch.testing.assert_close(values, wanted.detach(), rtol=0, atol=1e-7)


def test_grad_cam_of_a_block_reads_the_patches_of_the_last_class_attention() -> None:
    classifier, images = made()
    seen: list[Tensor] = []
    layer: Any = classifier.net.blocks_token_only[-1].norm1
    handle = layer.register_forward_hook(lambda _, __, out: seen.append(out))
    score = classifier(images)[:, 1].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, seen)
    weights = gradient[:, 1:].mean(1, keepdim=True)
    wanted = scaled((seen[0][:, 1:] * weights).sum(-1).relu()).detach()
    values = vitreous.relevance(classifier, images, 1, "gradcam_block")
    torch.testing.assert_close(values, wanted, rtol=0, atol=1e-7)


def test_what_does_not_hold_is_refused_in_one_line_that_names_what_does() -> None:
    classifier, images = made()
    refused = ("rollout", "legrad", "attn_lrp", "cp_lrp", "transformer_attribution")
    for method in refused:
        with pytest.raises(UnsupportedModelError) as error:
            vitreous.relevance(classifier, images, TARGET, method)
        reason, listed = str(error.value).split("; these methods work: ")
        assert reason and "\n" not in reason
        assert set(listed.split(", ")) == set(METHODS) - set(refused)
    for method in set(METHODS) - set(refused):
        assert vitreous.relevance(classifier, images, 0, method).std() > 0


def test_the_network_is_exactly_as_it_was() -> None:
    classifier, images = made()
    net = classifier.net
    before, state = classifier(images), copy.deepcopy(net.state_dict())
    fused = [m.fused_attn for m in net.modules() if hasattr(m, "fused_attn")]
    for method in (*ATTENTION, "gradcam_block"):
        vitreous.relevance(classifier, images, TARGET, method)
    assert torch.equal(classifier(images), before)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert fused == [m.fused_attn for m in net.modules() if hasattr(m, "fused_attn")]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_a_loss_of_the_maps_derives_attention_and_takes_its_gradient_for_a_constant() -> None:
    classifier, images = made()
    weight = classifier.net.blocks[0].attn.proj_w.weight
    maps = vitreous.relevance(classifier, images, 1, differentiable=True)
    (found,) = torch.autograd.grad(maps.square().sum(), weight)
    normed = (images - classifier.mean) / classifier.std
    logits, own, of_class = brute_force(classifier.net, normed)
    constant = torch.autograd.grad(logits[:, 1].sum(), own + of_class, retain_graph=True)
    cams = [as_matrix((a * g).relu().mean(1)) for a, g in zip(own + of_class, constant)]
    start = F.one_hot(torch.zeros((), dtype=torch.int64), 1 + PATCHES).double()
    wanted = scaled(carried(cams, start)).square().sum()
    (by_hand,) = torch.autograd.grad(wanted, weight)
    assert by_hand.abs().max() > 1e-3
    torch.testing.assert_close(found, by_hand, rtol=1e-6, atol=1e-9)


def test_a_recorded_pass_has_both_parts_in_order() -> None:
    classifier, images = made()
    trace = record_forward(classifier, images, attention=True).attention
    shapes = [tuple(one.shape[-2:]) for one in trace.maps]
    assert shapes == [(PATCHES, PATCHES)] * DEPTH + [(1, 1 + PATCHES)] * 2


def test_it_is_attacked_and_trained_by_its_maps() -> None:
    """A step of RobustViT's loss on perturbed images reaches both parts of the network."""
    classifier, images = made()
    classifier.float().train()
    images, labels = images.float(), torch.tensor([0, 2])
    masks = torch.zeros(2, 1, SIDE, SIDE)
    masks[..., 16:48, 16:48] = 1
    clean = Batch(images, labels, masks, torch.ones(2, dtype=torch.bool), torch.arange(2))
    attacked = FGSM(epsilon=8 / 255, step_size=10 / 255)(classifier, images, labels, {}, 1.0)
    perturbed = dataclasses.replace(clean, images=attacked)
    assert (attacked - images).abs().max() > 0.01
    objectives = {"classification": Classification(), "relevance": Relevance()}
    step = compute_loss(classifier, classifier, perturbed, objectives, clean=images)
    step.scaled(Share.whole(perturbed)).backward()
    net: Any = classifier.net
    for layer in (net.blocks[0].attn.proj_w, net.blocks_token_only[-1].attn.k):
        assert layer.weight.grad.abs().max() > 0
