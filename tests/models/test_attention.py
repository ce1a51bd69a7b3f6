"""Recording attention: what it refuses, and that it says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet18

import vitreous
from vitreous.errors import UnsupportedModelError


def torchvision_vit() -> vitreous.Classifier:
    net = VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3)
    nn.init.normal_(net.heads.head.weight)
    return vitreous.Classifier(net)


def test_torchvision_is_explained_and_its_attention_recorded():
    classifier, images = torchvision_vit(), torch.rand(1, 3, 32, 32)
    with vitreous.record_attention(classifier) as trace:
        classifier(images)
    assert [tuple(attention.shape) for attention in trace.maps] == [(1, 2, 17, 17)]
    assert torch.allclose(trace.maps[0].sum(-1), torch.ones(1, 2, 17))
    assert vitreous.relevance(classifier, images).amax() == 1


@pytest.mark.parametrize("make", [resnet18, nn.Flatten])
def test_a_model_without_attention_is_refused_instead_of_recorded_silently(make):
    model = vitreous.Classifier(make())
    with (
        pytest.raises(UnsupportedModelError, match="has no attention maps that can be recorded"),
        vitreous.record_attention(model),
    ):
        pass
