"""Relevance carried back half by half is that of whole maps, and leaves the model as it was."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn

import vitreous
from vitreous import Classifier, load_model
from vitreous.attribution import METHODS, blockwise, recorded_pass
from vitreous.models import attention_inputs
from vitreous.models.families import layout_of
from vitreous.models.forward import record_forward
from vitreous.models.halves import can_halve

SMALL = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
FAMILIES = {
    "plain": ("vit_tiny_patch16_224", SMALL),
    "distilled": ("deit_tiny_distilled_patch16_224", SMALL),
    "registers": ("vit_tiny_patch16_224", {**SMALL, "reg_tokens": 4}),
    "scaled": ("vit_tiny_patch16_224", {**SMALL, "init_values": 0.3, "qk_norm": True}),
    "gated": ("vit_tiny_patch16_224", {**SMALL, "mlp_layer": "swiglu"}),
}


def make(family: str) -> Classifier:
    torch.manual_seed(3)
    name, options = FAMILIES[family]
    if "mlp_layer" in options:
        from timm.layers import SwiGLU

        options = {**options, "mlp_layer": SwiGLU}
    model = load_model(name, pretrained=False, image_size=32, num_classes=5, **options)
    for name, weight in model.named_parameters():
        if name.endswith("gamma"):  # factors that differ from channel to channel
            nn.init.uniform_(weight, 0.2, 1.5)
    return model.eval()


def record(classifier: nn.Module, images: Tensor):
    return record_forward(
        classifier, images, attention=True, inputs_suffice=True, weight_gradients=False
    )


@pytest.mark.parametrize("share", [0.0, 1e3], ids=["made again", "graphs kept"])
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_those_of_whole_maps(family: str, start: int, share: float, monkeypatch) -> None:
    classifier, images = make(family).double(), torch.rand(2, 3, 32, 32).double()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    assert record(classifier, images).halves is not None
    expected = vitreous.explain(classifier, images, 1, start_layer=start)
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1)
    monkeypatch.setattr("vitreous.models.halves.PIECE", 5)
    monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", share)
    monkeypatch.setattr(blockwise, "BLOCK_NUMBERS", {"cpu": 100})
    monkeypatch.setattr(blockwise, "LEAST_ROWS", 1)
    found = vitreous.explain(classifier, images, 1, start_layer=start)
    assert expected.relevance.std() > 0.01
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-10)
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())


def test_no_graph_of_a_block_is_kept() -> None:
    """Two inputs a block are held, and what belongs to the head."""
    classifier, images, saved = make("plain"), torch.rand(2, 3, 32, 32), []

    weights = {parameter.data_ptr() for parameter in classifier.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = record(classifier, images)
    # Two images' class token in the last MLP.
    assert max(saved) <= 2 * 96 and made.halves is not None
    assert made.halves.inputs.shape == made.halves.middles.shape == (3, 2, 17, 24)


def test_graphs_of_mlps_fill_their_share_of_what_maps_would_take(monkeypatch) -> None:
    """By arithmetic: 17 tokens, 3 layers of 3 heads, batches of 2; blocks of 24 and MLPs of 96."""
    classifier, images = make("plain"), torch.rand(2, 3, 32, 32)
    maps, halves, mlp = 2 * 2 * 3 * 3 * 17 * 17, 2 * 2 * 3 * 17 * 24, 2 * 17 * 96
    for kept in range(3):
        for factor, expected in ((1.001, kept), (0.999, max(0, kept - 1))):
            share = (halves + mlp * kept) / maps * factor
            monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", share)
            made = record(classifier, images)
            # The last MLP, of a class token only, needs no room.
            assert made.halves is not None and sorted(made.halves.graphs) == list(
                range(2 - expected, 3)
            )
    monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", 1e3)
    whole = record(classifier, images).halves
    assert whole is not None and len(whole.graphs) == 3


def test_a_kept_graph_serves_twice_where_it_is_retained_and_is_let_go_elsewhere(
    monkeypatch,
) -> None:
    monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", 1e3)
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1)
    classifier, images = make("plain"), torch.rand(2, 3, 32, 32)
    layout = layout_of(classifier.net, (32, 32))
    for retain in (True, False):
        made = record(classifier, images)
        assert made.halves is not None
        options = {"retain_graph": retain}
        first = recorded_pass(made, torch.tensor([1, 1]), layout, **options)
        maps = METHODS["gradient_attention"](first)
        assert len(made.halves.graphs) == (3 if retain else 0)
        if retain:
            again = METHODS["gradient_attention"](first)
            assert torch.equal(again, maps) and len(made.halves.graphs) == 3


def test_half_precision_is_close_and_float16_takes_another_way(monkeypatch) -> None:
    classifier, images = make("plain"), torch.rand(2, 3, 32, 32)
    expected = vitreous.relevance(classifier, images, 1)
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert record(classifier, images).halves is not None
        torch.testing.assert_close(
            vitreous.relevance(classifier, images, 1), expected, rtol=0, atol=0.1
        )
    with torch.autocast("cpu", torch.float16):
        assert record(classifier, images).halves is None


@pytest.mark.parametrize("what", ["training", "a hook", "another pool", "gradients"])
def test_what_is_more_than_plain_takes_another_way(what: str) -> None:
    classifier, images = make("plain"), torch.rand(1, 3, 32, 32)
    assert can_halve(classifier.net)
    handle: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if what == "training":
        classifier.train()
    elif what == "a hook":
        handle = classifier.net.blocks[0].mlp.register_forward_hook(lambda *_: None)
    elif what == "another pool":
        classifier.net.global_pool = "avg"
    with handle:
        options = {"weight_gradients": what == "gradients"}
        made = record_forward(classifier, images, attention=True, inputs_suffice=True, **options)
    assert made.halves is None and made.recorded
