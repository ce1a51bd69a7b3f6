"""Recording attention: what it refuses, and that it says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet18

import vitreous
from vitreous.errors import UnsupportedModelError
from vitreous.models.forward import record_forward


def torchvision_vit() -> vitreous.Classifier:
    net = VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3)
    nn.init.normal_(net.heads.head.weight)
    return vitreous.Classifier(net)


def test_torchvision_is_told_to_be_unsupported_and_not_to_be_no_vision_transformer():
    classifier, images = torchvision_vit(), torch.rand(1, 3, 32, 32)
    for ask in (
        lambda: vitreous.relevance(classifier, images),
        lambda: record_forward(classifier, images, attention=True),
        lambda: vitreous.record_attention(classifier).__enter__(),
        lambda: vitreous.record_attention(classifier.net).__enter__(),
    ):
        with pytest.raises(UnsupportedModelError, match="torchvision's VisionTransformer") as error:
            ask()
        message = str(error.value)
        assert "not yet supported" in message and "\n" not in message
        assert "is not a Vision Transformer" not in message
    assert vitreous.relevance(classifier, images, method="input_gradient").amax() == 1


@pytest.mark.parametrize("make", [resnet18, nn.Flatten])
def test_a_model_without_attention_is_refused_instead_of_recorded_silently(make):
    model = vitreous.Classifier(make())
    with (
        pytest.raises(UnsupportedModelError, match="has no attention maps that can be recorded"),
        vitreous.record_attention(model),
    ):
        pass
