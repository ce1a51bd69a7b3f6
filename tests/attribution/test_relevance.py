"""Relevance maps against published numbers, brute force, and the promises of the interface."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vitreous
from golden.projection import largest_difference, load, relative_difference
from helpers import TIMM_PLAIN
from vitreous.attribution import METHODS, explain, min_max, relevance
from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.models.checkpoints import load_weights
from vitreous.models.families import layout_of
from vitreous.models.gradients import scaled_gradients

ONE_STREAM = ("gradcam_block", "legrad")
TINY = dict(pretrained=False, img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3)


def tiny_vit(**options) -> vitreous.Classifier:
    return vitreous.load_model("vit_tiny_patch16_224", num_classes=5, **{**TINY, **options})


def tiny_crossvit(depth=((1, 2, 1), (2, 1, 1)), **options) -> vitreous.Classifier:
    classifier = vitreous.load_model(
        "crossvit_tiny_240",
        pretrained=False,
        img_size=48,
        img_scale=(1.0, 32 / 48),
        patch_size=(12, 8),
        embed_dim=(12, 24),
        depth=depth,
        num_heads=(2, 2),
        num_classes=4,
        **options,
    )
    for parameter in classifier.parameters():  # larger weights: attention far from uniform
        parameter.data.mul_(3.0 if parameter.ndim > 1 else 1.0)
    return classifier


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("relevance_training")


@pytest.fixture(scope="module")
def golden_model(golden) -> vitreous.Classifier:
    meta = json.loads(str(golden["meta"]))
    classifier = vitreous.load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        normalization="half",
        num_classes=meta["num_classes"],
        embed_dim=meta["embed_dim"],
        depth=meta["depth"],
        num_heads=meta["num_heads"],
    )
    state = {k[2:]: torch.from_numpy(v) for k, v in golden.items() if k.startswith("w/")}
    load_weights(classifier.net, state)
    return classifier


def test_golden_logits_and_relevance(golden, golden_model):
    images = torch.from_numpy(golden["image_uint8"]).float() / 255
    labels = torch.from_numpy(golden["y"])
    by_label, by_prediction = explain(golden_model, images, labels), explain(golden_model, images)
    assert np.abs(by_label.logits.numpy() - golden["logits"]).max() < 1e-5
    for name, maps in (("relevance", by_label), ("relevance_argmax", by_prediction)):
        assert largest_difference(golden, name, maps.relevance.numpy()) < 1e-5
        assert relative_difference(golden, name, maps.relevance.numpy()) < 1e-5


def test_a_changed_weight_or_pixel_is_seen_in_the_shrunk_maps(golden, golden_model):
    images = torch.from_numpy(golden["image_uint8"]).float() / 255
    labels = torch.from_numpy(golden["y"])
    changed = relevance(golden_model, images, labels).numpy().copy()
    changed.ravel()[1] += 0.5  # no element of the sample
    assert largest_difference(golden, "relevance", changed) < 1e-5
    assert relative_difference(golden, "relevance", changed) > 1e-4
    weight = golden_model.net.get_parameter("blocks.1.attn.qkv.weight")
    kept = float(weight.data[0, 0])
    weight.data[0, 0] += 0.01
    try:
        found = relevance(golden_model, images, labels).numpy()
    finally:
        weight.data[0, 0] = kept
    assert largest_difference(golden, "relevance", found) > 1e-5


def brute_force(classifier: vitreous.Classifier, images: Tensor, target: int) -> list[Tensor]:
    """Relevance with full matrices over the joined tokens of all branches, layer by layer."""
    layout = layout_of(classifier.net, images.shape[-2:])
    with vitreous.record_attention(classifier) as trace:
        score = classifier(images)[:, target].sum()
        gradients = [torch.autograd.grad(score, m, retain_graph=True)[0] for m in trace.maps]
    sizes = [s.tokens for s in layout.streams]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    total = int(offsets[-1])
    matrix = torch.eye(total, dtype=images.dtype).repeat(len(images), 1, 1)
    for name, attention, gradient in zip(trace.names, trace.maps, gradients):
        cam = (attention * gradient).clamp(min=0).mean(1)
        parts = name.removeprefix("net.").split(".")
        full = torch.zeros_like(matrix)
        if len(sizes) == 1:
            full[:] = cam
        elif parts[2] == "blocks":
            rows = slice(int(offsets[int(parts[3])]), int(offsets[int(parts[3]) + 1]))
            full[:, rows, rows] = cam
        else:
            i, j = int(parts[3]), 1 - int(parts[3])
            query = int(offsets[i])
            full[:, query, query] = cam[:, 0, 0]
            if cam.shape[-1] > 1:
                full[:, query, int(offsets[j]) + 1 : int(offsets[j + 1])] = cam[:, 0, 1:]
        matrix = matrix + full @ matrix
    start = torch.cat([s.start for s in layout.streams]).to(images.dtype)
    row = torch.einsum("t,btk->bk", start, matrix) - start
    return [
        row[:, int(o) + s.prefix : int(o) + s.tokens].reshape(-1, 1, *s.grid).detach()
        for o, s in zip(offsets, layout.streams)
    ]


@pytest.mark.parametrize("depth", [((1, 2, 1), (2, 1, 1)), ((1, 1, 2),), ((1, 1, 1),) * 3])
def test_crossvit_equals_full_matrices_over_the_joined_tokens(depth):
    classifier, images = tiny_crossvit(depth), torch.rand(2, 3, 48, 48)
    expected = sum(
        nn.functional.interpolate(m, size=(48, 48), mode="bilinear", align_corners=False)
        for m in brute_force(classifier, images, 1)
    )
    found = relevance(classifier, images, 1)
    assert torch.allclose(found, min_max(expected)[0], atol=1e-5)
    assert found.amax() == 1


@pytest.mark.parametrize(
    "name, options",
    [
        ("vit_tiny_patch16_224", TINY),
        ("vit_tiny_patch16_224", {**TINY, "global_pool": "avg"}),
        ("vit_small_patch14_reg4_dinov2", dict(TINY, reg_tokens=4)),
        ("deit_tiny_distilled_patch16_224", TINY),
        ("eva02_tiny_patch14_224", dict(img_size=28, depth=2, embed_dim=24, num_heads=3)),
        ("beit_base_patch16_224", dict(img_size=32, depth=2, embed_dim=24, num_heads=3)),
        ("vit_base_patch16_clip_224", TINY),
        ("vit_small_patch16_dinov3", dict(img_size=32, depth=2, embed_dim=24, num_heads=3)),
    ],
)
def test_families_equal_full_matrices(name, options):
    options = {**options, "pretrained": False}
    classifier = vitreous.load_model(name, num_classes=5, **options)
    if "dinov3" in name:  # its residual branches start at 1e-5: make them count
        for key, value in classifier.named_parameters():
            if "gamma" in key:
                value.data.fill_(1.0)
    classifier = classifier.double()
    images = torch.rand(2, 3, *classifier.preprocessing.size, dtype=torch.float64)
    (patches,) = brute_force(classifier, images, 3)
    expected = nn.functional.interpolate(
        patches, size=images.shape[-2:], mode="bilinear", align_corners=False
    )
    assert torch.allclose(relevance(classifier, images, 3), min_max(expected)[0], atol=1e-6)


def test_rectangular_pictures_have_rectangular_maps():
    classifier = tiny_vit(img_size=(32, 48))
    found = relevance(classifier, torch.rand(2, 3, 32, 48))
    assert found.shape == (2, 1, 32, 48)


def rollout_matrix(maps: list[Tensor]) -> Tensor:
    total = identity = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype)
    for attention in maps:
        mixed = attention.mean(1) + identity
        total = (mixed / mixed.sum(-1, keepdim=True)) @ total
    return total[:, 0, 1:]


def test_rollout_is_the_product_of_normalised_matrices():
    classifier, images = tiny_vit().double(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with vitreous.record_attention(classifier) as trace:
        classifier(images)
    patches = rollout_matrix([m.detach() for m in trace.maps]).reshape(2, 1, 4, 4)
    expected = nn.functional.interpolate(patches, size=(32, 32), mode="bilinear")
    found = relevance(classifier, images, method="rollout")
    assert torch.allclose(found, min_max(expected)[0], atol=1e-5)


def test_input_gradient_equals_finite_differences():
    classifier = tiny_vit().double()
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    found = relevance(classifier, images, 2, method="input_gradient")[0, 0]
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    steps = []
    for place in [(row, column), (3, 5)]:
        slopes = []
        for channel in range(3):
            moved = [images.clone(), images.clone()]
            moved[0][0, channel, *place] += 1e-5
            moved[1][0, channel, *place] -= 1e-5
            with torch.no_grad():
                slopes.append((classifier(moved[0]) - classifier(moved[1]))[0, 2].abs() / 2e-5)
        steps.append(max(slopes))
    raw = explain(classifier, images, 2, method="input_gradient").relevance[0, 0]
    assert float(raw[row, column]) == 1.0
    low = _raw_input_gradient(classifier, images, 2).amin()
    expected = (steps[1] - low) / (steps[0] - low)
    assert float(raw[3, 5]) == pytest.approx(float(expected), rel=1e-4)


def _raw_input_gradient(classifier, images, target):
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(images)[:, target].sum(), images)
    return gradient.abs().amax(1)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_map_does_not_depend_on_its_batch(method):
    models = [(tiny_vit(), 32)]
    if method not in (*ONE_STREAM, *TIMM_PLAIN):
        models.append((tiny_crossvit(), 48))
    for classifier, size in models:
        images = torch.rand(4, 3, size, size)
        together = relevance(classifier, images, [0, 1, 2, 3], method)
        alone = torch.cat([relevance(classifier, images[i : i + 1], i, method) for i in range(4)])
        assert together.shape == (4, 1, size, size)
        assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("method", ONE_STREAM)
def test_methods_for_one_stream_refuse_two_in_one_line(method):
    with pytest.raises(UnsupportedModelError, match=f"{method} holds for networks with one stream"):
        relevance(tiny_crossvit(), torch.rand(1, 3, 48, 48), 1, method)


def fingerprint(classifier: nn.Module) -> list[object]:
    return [
        (
            m.training,
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            len(m._backward_hooks),
            getattr(m, "fused_attn", None),
        )
        for m in classifier.modules()
    ] + [(p.requires_grad, p.grad) for p in classifier.parameters()]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_model_is_left_as_it_was(method):
    classifier = tiny_vit().train()
    classifier.net.blocks[1].eval()
    classifier.net.blocks[0].attn.fused_attn = False
    classifier.net.head.requires_grad_(False)
    before = fingerprint(classifier)
    relevance(classifier, torch.rand(2, 3, 32, 32), method=method)
    assert fingerprint(classifier) == before
    with pytest.raises(Exception):  # noqa: B017 - any failure inside the pass
        relevance(classifier, torch.rand(2, 3, 31, 32), method=method)
    assert fingerprint(classifier) == before
    with pytest.raises(ZeroDivisionError), vitreous.record_attention(classifier):
        classifier(torch.rand(1, 3, 32, 32))
        raise ZeroDivisionError
    assert fingerprint(classifier) == before


def test_frozen_weights_no_grad_and_inference_mode_give_the_same_map():
    classifier, images = tiny_vit(), torch.rand(2, 3, 32, 32)
    expected = relevance(classifier, images)
    with torch.no_grad():
        assert torch.allclose(relevance(classifier, images), expected)
    with torch.inference_mode():
        assert torch.allclose(relevance(classifier, images), expected)
    classifier.requires_grad_(False)
    assert torch.allclose(relevance(classifier, images), expected, atol=1e-6)


def test_a_constant_map_is_zeros_and_counted():
    classifier, images = tiny_vit(), torch.rand(3, 3, 32, 32)
    nn.init.zeros_(classifier.net.head.weight)
    found = explain(classifier, images)
    assert found.constant.tolist() == [True] * 3
    assert torch.equal(found.relevance, torch.zeros(3, 1, 32, 32))
    mixed, constant = min_max(torch.stack([torch.rand(1, 4, 4), torch.full((1, 4, 4), 2.0)]))
    assert constant.tolist() == [False, True] and mixed.isfinite().all()


def test_fifty_steps_leave_no_growth_in_live_tensors():
    classifier, images = tiny_vit(), torch.rand(2, 3, 32, 32)
    optimiser = torch.optim.SGD(classifier.parameters(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        relevance(classifier, images, 1, differentiable=True).mean().backward()
        optimiser.step()

    def live() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    for _ in range(3):
        step()
    before = live()
    for _ in range(50):
        step()
    assert live() <= before


def test_second_order_reaches_what_constant_gradients_do_not():
    classifier, images = tiny_vit(), torch.rand(2, 3, 32, 32)
    gradients = []
    for options in (dict(differentiable=True), dict(second_order=True)):
        classifier.zero_grad()
        relevance(classifier, images, 1, **options).mean().backward()
        gradients.append(classifier.net.head.weight.grad)
    assert gradients[0] is None  # after the last attention map only its gradient depends on it
    assert gradients[1] is not None and gradients[1].abs().sum() > 0


def test_a_start_layer_ignores_earlier_layers():
    classifier, images = tiny_vit(depth=3), torch.rand(1, 3, 32, 32)
    with vitreous.record_attention(classifier) as trace:
        score = classifier(images)[:, 0].sum()
        gradient = torch.autograd.grad(score, trace.maps[2])[0]
    row = (trace.maps[2] * gradient).clamp(min=0).mean(1)[:, 0, 1:].reshape(1, 1, 4, 4)
    expected = nn.functional.interpolate(row.detach(), size=(32, 32), mode="bilinear")
    found = relevance(classifier, images, 0, start_layer=2)
    assert torch.allclose(found, min_max(expected)[0], atol=1e-5)
    with pytest.raises(VitreousError, match="start layer 3 does not exist"):
        relevance(classifier, images, start_layer=3)


@pytest.mark.parametrize(
    "name, options",
    [
        ("swin_tiny_patch4_window7_224", dict(embed_dim=24, depths=(1, 1), num_heads=(1, 1))),
        ("resnet18", {}),
    ],
)
def test_other_families_are_refused_with_the_methods_that_work(name, options):
    classifier = vitreous.load_model(name, pretrained=False, num_classes=3, **options)
    images = torch.rand(1, 3, *classifier.preprocessing.size)
    with pytest.raises(UnsupportedModelError, match="methods work: input_gradient"):
        relevance(classifier, images)
    assert relevance(classifier, images, method="input_gradient").amax() == 1


def test_wrong_arguments_are_told_in_one_line():
    classifier = tiny_vit()
    with pytest.raises(VitreousError, match="did you mean 'rollout'"):
        relevance(classifier, torch.rand(1, 3, 32, 32), method="rolout")
    with pytest.raises(VitreousError, match="class 7 does not exist"):
        relevance(classifier, torch.rand(1, 3, 32, 32), 7)
    with pytest.raises(VitreousError, match=r"found uint8"):
        relevance(classifier, torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_half_precision_does_not_lose_small_gradients():
    weight = torch.ones(4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.float16):
        score = (weight.half() * 2**-14).sum().float() * 2**-14
        (plain,) = torch.autograd.grad(score, weight, retain_graph=True)
        (found,) = scaled_gradients(score, [weight], create_graph=False, retain_graph=False)
    assert torch.allclose(found, torch.full((4,), 2.0**-28), rtol=1e-3)
    assert torch.equal(plain, torch.zeros(4))
