"""Every family of timm that has attention: explained as full matrices have it, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn import functional as F

import vitreous
from converted import seeded
from helpers import TIMM_PLAIN
from vitreous import Classifier
from vitreous.attribution import METHODS
from vitreous.errors import UnsupportedModelError
from vitreous.models.layout import WITHOUT_ATTENTION

# The smallest of each module of timm's that has attention, made smaller where that is quick.
FAMILIES: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 32},
    "cait_xxs24_224": {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 64},
    "coat_lite_tiny": {"img_size": 64},
    "coatnet_nano_rw_224": {"img_size": 64},
    "convit_tiny": {"depth": 3, "local_up_to_layer": 2, "embed_dim": 6, "img_size": 64},
    "deit3_small_patch16_224": {"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 32},
    "edgenext_xx_small": {},
    "eva02_tiny_patch14_224": {"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 28},
    "gcvit_xxtiny": {},
    "mobilevit_xxs": {},
    "naflexvit_base_patch16_siglip": {"depth": 2, "embed_dim": 24, "num_heads": 3},
    "nest_tiny": {},
    "pit_ti_224": {},
    "poolformer_s12": {},
    "pvt_v2_b0": {},
    "samvit_base_patch16_224": {"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 64},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1), "num_heads": (1, 1)},
    "swinv2_cr_tiny_224": {},
    "swinv2_tiny_window8_256": {},
    "tnt_s_legacy_patch16_224": {"depth": 2},
    "twins_svt_small": {},
    "vit_relpos_small_patch16_224": {"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 32},
    "vit_tiny_r_s16_p8_224": {"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 64},
    "visformer_tiny": {},
    "vitamin_small_224": {},
    "volo_d1_224": {},
    "xcit_nano_12_p16_224": {"depth": 2},
}
EXPLAINED = {
    "beit_base_patch16_224",
    "deit3_small_patch16_224",
    "eva02_tiny_patch14_224",
    "vit_relpos_small_patch16_224",
    "vit_tiny_r_s16_p8_224",
    "vitamin_small_224",
}
ELSEWHERE = {"cait_xxs24_224"}  # explained too, with two streams of tokens: `test_cait`
WITHOUT = ("input_gradient", "integrated_gradients", "smooth_grad", "occlusion")
REASONS = {
    "coat_lite_tiny": "factorized",
    "convit_tiny": "CLS token behind",
    "xcit_nano_12_p16_224": "over channels",
}


def made(name: str) -> tuple[Classifier, Tensor]:
    net = seeded(timm.create_model(name, num_classes=3, **FAMILIES[name]), 1.0)
    size = FAMILIES[name].get("img_size") or net.pretrained_cfg["input_size"][1]
    return Classifier(net).double(), torch.rand(2, 3, size, size, dtype=torch.float64)


def test_every_family_is_decided() -> None:
    """A new version of timm with another family shows here."""
    modules = {timm.models._registry._model_to_module[name] for name in FAMILIES}
    without_names = {"crossvit", "vision_transformer", "deit"}
    assert {*FAMILIES} >= EXPLAINED and len(modules | without_names) > 25


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - ELSEWHERE))
def test_explained_as_full_matrices_have_it_or_refused_in_one_line(name: str) -> None:
    classifier, images = made(name)
    attention = [m for m in METHODS if "attention" in METHODS[m].needs]
    if name not in EXPLAINED:
        for method in [*attention, "legrad", "gradcam_block", *TIMM_PLAIN]:
            with pytest.raises(UnsupportedModelError) as error:
                vitreous.relevance(classifier, images, 1, method)
            reason, listed = str(error.value).split("; these methods work: ")
            assert "\n" not in reason and set(listed.split(", ")) == set(WITHOUT)
            assert method not in attention or REASONS.get(name, "") in str(error.value)
        return
    with vitreous.record_attention(classifier) as trace:
        score = classifier(images)[:, 1].sum()
    layers = [x for x in classifier.net.modules() if hasattr(x, "attn_drop")]
    assert len(trace.maps) == len(layers) > 1
    gradients = torch.autograd.grad(score, trace.maps)
    count, prefix = trace.maps[0].shape[-1], classifier.net.num_prefix_tokens
    matrix = torch.eye(count, dtype=torch.float64).expand(2, -1, -1)
    for one, gradient in zip(trace.maps, gradients):
        matrix = matrix + (one * gradient).clamp(min=0).mean(1) @ matrix
    pooled = classifier.net.global_pool == "avg"
    row = matrix[:, prefix:].mean(1) if pooled else matrix[:, 0]
    side = round((count - prefix) ** 0.5)
    maps = row[:, prefix:].reshape(2, 1, side, side)
    maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear")
    low, high = maps.amin((1, 2, 3), True), maps.amax((1, 2, 3), True)
    values = vitreous.relevance(classifier, images, 1)
    torch.testing.assert_close(values, (maps - low) / (high - low), rtol=0, atol=1e-7)
    assert values.std() > 0.01


def test_what_a_refusal_names_does_work() -> None:
    classifier, images = made("xcit_nano_12_p16_224")
    image = images[:1, :, :64, :64].float()
    classifier.float()
    for method in WITHOUT:
        assert vitreous.relevance(classifier, image, 1, method).std() > 0.01
    assert f"these methods work: {', '.join(WITHOUT)}" == WITHOUT_ATTENTION


@pytest.mark.parametrize("name", FAMILIES)
def test_no_attention_is_recorded_without_a_word_where_there_is_none(name: str) -> None:
    """Each layer that is watched gives a map in each pass, or the pass ends with one line."""
    classifier, images = made(name)
    watched = [x for x in classifier.net.modules() if hasattr(x, "attn_drop")]
    try:
        with vitreous.record_attention(classifier) as trace, torch.no_grad():
            classifier(images)
    except UnsupportedModelError as error:
        assert "\n" not in str(error) and name in ("coat_lite_tiny", "poolformer_s12")
    else:
        assert len(trace.maps) >= len(watched) > 0


class Unmapped(Attention):
    """Attention that has a dropout for its map, and does not form one."""

    def forward(self, x: Tensor, attn_mask: object = None, is_causal: bool = False) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(F.scaled_dot_product_attention(q, k, v))


def test_a_layer_that_makes_no_map_is_named(monkeypatch) -> None:
    net: Any = timm.create_model("vit_tiny_patch16_224", depth=3, img_size=32)
    net.blocks[1].attn = Unmapped(192, num_heads=3)
    images = torch.rand(1, 3, 32, 32)
    expected = pytest.raises(UnsupportedModelError, match=r"'net\.blocks\.1\.attn' \(Unmapped\)")
    with expected, vitreous.record_attention(Classifier(net)):
        Classifier(net)(images)
    with pytest.raises(UnsupportedModelError, match=r"1 attention layers made no map"):
        vitreous.relevance(Classifier(net), images, 1, "rollout")
    assert not any(m._forward_hooks for m in net.modules()) and isinstance(net, nn.Module)
