"""Models of Hugging Face transformers by folder and by instance, there and back."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

import vitreous
from converted import CLASSES, COMMON, SIZE, WIDTH, seeded, timm_twin
from vitreous import Classifier, load_model, save_model
from vitreous.data.images import evaluation_transform
from vitreous.errors import UnsupportedModelError, VitreousError

NAMES = ["ant", "bee", "cat", "dog", "eel"]
SIZES = {**COMMON, "intermediate_size": 4 * WIDTH}


def make(**options: object) -> transformers.ViTForImageClassification:
    labels = dict(enumerate(NAMES))
    config = transformers.ViTConfig(**SIZES, id2label=labels, label2id={}, **options)
    return seeded(transformers.ViTForImageClassification(config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make().save_pretrained(tmp_path / "theirs")
    processor = transformers.ViTImageProcessor(
        size={"height": SIZE, "width": SIZE},
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.2, 0.3, 0.4],
        resample=3,
    )
    processor.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def test_a_folder_is_what_its_own_library_makes_of_it(folder: Path) -> None:
    """A picture through their processor and model, and through ours."""
    from PIL import Image

    classifier = load_model(folder)
    pixels = (torch.rand(50, 40, 3) * 255).to(torch.uint8)
    picture = Image.fromarray(pixels.numpy())
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = theirs(**processor(images=picture, return_tensors="pt")).logits
        image = evaluation_transform(classifier.preprocessing)(picture)
        logits = classifier(image[None])
    assert classifier.class_names == NAMES and classifier.num_classes == CLASSES
    assert classifier.preprocessing.size == (SIZE, SIZE)
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-2)  # they round after resizing
    assert logits.argmax() == expected.argmax()


def test_saved_and_loaded_again_by_both_libraries(folder: Path, tmp_path: Path) -> None:
    classifier, images = load_model(folder), torch.rand(2, 3, SIZE, SIZE)
    saved = save_model(classifier, tmp_path / "ours")
    again = load_model(saved)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(saved).eval()
    with torch.no_grad():
        expected = classifier(images)
        assert torch.equal(again(images), expected)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
        assert torch.allclose(theirs((images - mean) / std).logits, expected, atol=1e-6)
    assert again.class_names == NAMES and again.preprocessing == classifier.preprocessing
    assert theirs.config.id2label == dict(enumerate(NAMES))


def test_a_new_head_is_said(folder: Path, caplog) -> None:
    assert not load_model(folder).new_head
    with caplog.at_level(logging.WARNING):
        classifier = load_model(folder, num_classes=3)
    assert classifier.new_head and classifier.num_classes == 3
    assert "the head does not fit and starts anew" in caplog.text


def test_other_sizes_are_taken(folder: Path) -> None:
    classifier = load_model(folder, image_size=(48, 40))
    assert classifier.preprocessing.size == (48, 40)
    maps = vitreous.relevance(classifier, torch.rand(1, 3, 48, 40), 1)
    assert maps.shape == (1, 1, 48, 40) and maps.std() > 0.01


def test_an_instance_brings_its_classes_and_says_what_it_lacks(caplog) -> None:
    net = make()
    with caplog.at_level(logging.WARNING):
        classifier = load_model(net)
    assert classifier.net is net and classifier.class_names == NAMES
    assert "does not say its normalization" in caplog.text
    assert Classifier(net).class_names == NAMES


def test_a_name_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(VitreousError, match=r"cannot load .* as an image classifier") as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["gradient_attention", "rollout", "raw_attention"])
@pytest.mark.parametrize("registers", [0, 2])
def test_a_head_that_pools_by_attention_is_one_more_layer(method, registers) -> None:
    """Brute force, with the learned query as one more token before the others."""
    twin = timm_twin(
        "vit_base_patch16_siglip_224", global_pool="map", fc_norm=False, reg_tokens=registers
    )
    images, images_seen = torch.rand(2, 3, SIZE, SIZE), []
    handle = twin.attn_pool.register_forward_pre_hook(lambda _, a: images_seen.append(a[0]))
    classifier = Classifier(twin)
    with vitreous.record_attention(classifier) as trace:
        logits = classifier(images)
    handle.remove()
    assert torch.allclose(logits, classifier(images), atol=1e-5)
    pool, tokens = twin.attn_pool, images_seen[0]
    keys = pool.kv(tokens).reshape(2, -1, 2, pool.num_heads, pool.head_dim)[:, :, 0]
    query = pool.q(pool.latent)[0, 0].reshape(pool.num_heads, pool.head_dim)
    weights = torch.einsum("bkhd,hd->bhk", keys, query * pool.scale).softmax(-1)
    torch.testing.assert_close(trace.maps[-1][:, :, 0], weights, rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(logits[:, 1].sum(), trace.maps)
    count = trace.maps[0].shape[-1]
    matrix = torch.eye(count).expand(2, -1, -1)
    for attention, gradient in zip(trace.maps[:-1], gradients):
        cam = (attention * gradient).clamp(min=0).mean(1)
        if method == "rollout":
            cam = (attention.mean(1) - torch.eye(count)) / 2  # (A + I)/2 - I
        matrix = matrix + cam @ matrix
    read = (trace.maps[-1] * gradients[-1]).clamp(min=0).mean(1)
    if method != "gradient_attention":
        read = trace.maps[-1].mean(1)
    read = F.pad(read, (count - read.shape[-1], 0))
    row = (read if method == "raw_attention" else read @ matrix)[:, 0, registers:]
    maps = F.interpolate(row.reshape(2, 1, 4, 4), size=(SIZE, SIZE), mode="bilinear")
    low, high = maps.amin((1, 2, 3), True), maps.amax((1, 2, 3), True)
    values = vitreous.relevance(classifier, images, 1, method)
    torch.testing.assert_close(values, (maps - low) / (high - low), rtol=0, atol=1e-5)
    assert values.std() > 0.01 and isinstance(twin, nn.Module)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("xcit_nano_12_p16_224", {"img_size": 32}),
        ("swin_tiny_patch4_window7_224", {"img_size": 56}),
    ],
)
def test_what_has_no_rule_is_refused_in_one_line(name, options) -> None:
    model = load_model(name, pretrained=False, num_classes=3, **options)
    with pytest.raises(UnsupportedModelError) as error:
        vitreous.relevance(model, torch.rand(1, 3, *model.preprocessing.size))
    assert "\n" not in str(error.value) and "input_gradient" in str(error.value)
