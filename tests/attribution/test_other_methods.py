"""Methods with passes of their own, against captum, pytorch-grad-cam and legrad-torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import vitreous
from converted import SIZE, timm_twin
from golden.other_attributions import TARGET, pooled_twin
from golden.other_attributions import test_images as golden_images
from vitreous import Classifier
from vitreous.attribution.path_gradients import IntegratedGradients, SmoothGrad
from vitreous.errors import UnsupportedModelError, VitreousError

FILE = Path(__file__).parents[1] / "golden" / "other_attributions.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(FILE) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2, 3), True), maps.amax((1, 2, 3), True)
    return (maps - low) / (high - low)


def close(values: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.01
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-4)


def relevance(method: str, net: torch.nn.Module | None = None) -> Tensor:
    return vitreous.relevance(Classifier(net or timm_twin()), golden_images(), TARGET, method)


def test_integrated_gradients_are_captums(golden) -> None:
    attributions = golden["integrated_gradients"]
    close(relevance("integrated_gradients"), scaled(attributions.abs().sum(1, keepdim=True)))


def test_occlusion_is_captums(golden) -> None:
    close(relevance("occlusion"), scaled(golden["occlusion"]))


def test_grad_cam_of_a_block_is_that_of_pytorch_grad_cam(golden) -> None:
    patches = golden["gradcam_block"][:, None].float()
    expected = F.interpolate(patches, size=(SIZE, SIZE), mode="bilinear")
    close(relevance("gradcam_block"), scaled(expected))


def test_legrad_is_that_of_its_authors(golden) -> None:
    close(relevance("legrad", pooled_twin()), golden["legrad"])


def test_smooth_grad_is_the_mean_gradient_over_its_noise() -> None:
    classifier, images = Classifier(timm_twin()), golden_images()
    noise = torch.Generator().manual_seed(0)
    span = images.amax((1, 2, 3), True) - images.amin((1, 2, 3), True)
    total = torch.zeros_like(images)
    for _ in range(SmoothGrad.samples):
        seen = images + 0.15 * span * torch.randn(images.shape[1:], generator=noise)
        seen.requires_grad_()
        total += torch.autograd.grad(classifier(seen)[:, TARGET].sum(), seen)[0]
    close(relevance("smooth_grad"), scaled(total.abs().amax(1, keepdim=True)))


def test_integrated_gradients_sum_to_what_the_score_gained(monkeypatch) -> None:
    """Completeness (Sundararajan et al. 2017, proposition 1)."""
    from vitreous.attribution.base import RecordedPass
    from vitreous.models.attention import AttentionTrace

    monkeypatch.setattr(IntegratedGradients, "steps", 300)
    classifier, images = Classifier(timm_twin()).double(), golden_images().double()

    def score(logits: Tensor) -> Tensor:
        return logits[:, TARGET]

    recorded = RecordedPass(
        images, torch.zeros(()), AttentionTrace(), None, classifier=classifier, score_of=score
    )
    gained = score(classifier(images) - classifier(torch.zeros_like(images))).detach()
    sums = IntegratedGradients().attributions(recorded).sum((1, 2, 3))
    torch.testing.assert_close(sums, gained, rtol=2e-2, atol=2e-2)


def test_maps_that_cannot_be_derived_are_not() -> None:
    with pytest.raises(UnsupportedModelError, match="maps of legrad cannot be derived"):
        vitreous.relevance(
            Classifier(timm_twin()), golden_images(), method="legrad", differentiable=True
        )


def test_a_class_by_name_is_that_class() -> None:
    names = ["ant", "bee, honey bee", "cat", "cat flap", "n04507155"]
    classifier, images = Classifier(timm_twin(), class_names=names), golden_images()
    for name, number in {"ant": 0, "Honey Bee": 1, "cat": 2, "umbrella": 4, "n04507155": 4}.items():
        expected = vitreous.relevance(classifier, images, number)
        assert torch.equal(vitreous.relevance(classifier, images, name), expected)
    with pytest.raises(VitreousError, match="no class is called 'ca'; did you mean 'cat'"):
        vitreous.relevance(classifier, images, "ca")


@pytest.mark.parametrize("method", ["input_gradient", "gradient_attention", "smooth_grad"])
def test_the_difference_of_two_classes_is_explained(method) -> None:
    """A head whose one logit is the difference gives the same map."""
    twin, images = timm_twin(), golden_images()
    maps = vitreous.relevance(Classifier(twin), images, 3, method, against=1)
    weight, bias = twin.head.weight.data, twin.head.bias.data
    weight[0], bias[0] = weight[3] - weight[1], bias[3] - bias[1]
    close(maps, vitreous.relevance(Classifier(twin), images, 0, method))
