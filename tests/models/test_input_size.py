"""Images of a size that a network does not take, and models without a head: one line each."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

import vitreous
from converted import COMMON
from vitreous import Classifier
from vitreous.errors import VitreousError

SMALL = {"depth": 1, "embed_dim": 24, "num_heads": 2}


@pytest.mark.parametrize(
    ("net", "size", "expected"),
    [
        (lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, **SMALL), 48, "32 × 32"),
        (lambda: timm.create_model("cait_xxs24_224", img_size=64, **SMALL), 32, "64 × 64"),
        (lambda: torchvision.models.VisionTransformer(32, 8, 1, 2, 24, 48), 48, "32 × 32"),
        (
            lambda: timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **SMALL),
            40,
            "16 × 16 pixels; an input of 40 × 40 is no multiple",
        ),
    ],
)
def test_a_size_that_does_not_fit_is_one_line(net, size, expected) -> None:
    classifier, images = Classifier(net()), torch.rand(1, 3, size, size)
    for call in (classifier, lambda x: vitreous.relevance(classifier, x, 1)):
        with pytest.raises(VitreousError, match=expected) as error:
            call(images)
        assert "\n" not in str(error.value) and f"{size} × {size}" in str(error.value)


def siglip() -> nn.Module:
    """Like SigLIP's of 384 pixels and patches of 14: patches that do not fill the image."""
    config = transformers.SiglipVisionConfig(**{**COMMON, "image_size": 37, "patch_size": 8})
    return transformers.SiglipForImageClassification(
        transformers.SiglipConfig(vision_config=config.to_dict(), num_labels=3)
    )


@pytest.mark.parametrize("make", ["timm", "transformers"])
def test_what_is_in_no_patch_is_of_no_relevance(make: str) -> None:
    torch.manual_seed(0)
    if make == "timm":
        options = {"img_size": 37, "patch_size": 8, "num_classes": 3, **SMALL}
        classifier = Classifier(timm.create_model("vit_tiny_patch16_224", **options))
    else:
        classifier = Classifier(siglip())
    for weight in classifier.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    images = torch.rand(2, 3, 37, 37)
    moved = images.clone()
    moved[..., 32:, :] = 0.0
    moved[..., 32:] = 1.0
    torch.testing.assert_close(classifier(moved), classifier(images))
    maps = vitreous.relevance(classifier, images, 1)
    assert maps[..., :32, :32].std() > 0.05
    assert not maps[..., 32:, :].any() and not maps[..., 32:].any()


def test_a_tower_of_open_clip_takes_one_size() -> None:
    tower = open_clip.transformer.VisionTransformer(32, 8, 24, 1, 2, 4.0, output_dim=3)
    for net in (tower, nn.Sequential(tower, nn.Linear(3, 2))):
        for call in (Classifier(net), lambda x, n=net: vitreous.relevance(Classifier(n), x, 1)):
            with pytest.raises(VitreousError, match="takes images of 32 × 32") as error:
                call(torch.rand(1, 3, 40, 40))
            assert "\n" not in str(error.value)


def test_sizes_that_a_network_takes_are_not_refused() -> None:
    options = {"dynamic_img_size": True, **SMALL}
    dynamic = Classifier(timm.create_model("vit_tiny_patch16_224", **options))
    padded = Classifier(timm.create_model("vit_tiny_patch16_224", dynamic_img_pad=True, **options))
    assert dynamic(torch.rand(1, 3, 48, 32)).shape == padded(torch.rand(1, 3, 40, 30)).shape
    assert Classifier(timm.create_model("resnet18"))(torch.rand(1, 3, 40, 50)).shape == (1, 1000)


def test_a_model_of_transformers_without_a_head_is_told_how_to_get_one(tmp_path: Path) -> None:
    folder = tmp_path / "dino"
    transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**COMMON)).save_pretrained(folder)
    with pytest.raises(VitreousError, match=r"'dinov3_vit'.*TowerClassifier") as error:
        vitreous.load_model(folder)
    assert "\n" not in str(error.value) and f"Linear({COMMON['hidden_size']}" in str(error.value)
