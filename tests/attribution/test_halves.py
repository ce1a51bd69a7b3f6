"""Relevance carried back half by half is that of whole maps, and leaves the model as it was."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import torch
from torch import Tensor, nn

import vitreous
from vitreous import Classifier, load_model
from vitreous.attribution import METHODS, blockwise, recorded_pass
from vitreous.models import attention_inputs
from vitreous.models.families import layout_of
from vitreous.models.forward import record_forward
from vitreous.models.halved_pass import CrossVitPass, PlainPass, can_halve
from vitreous.models.halves import Chain

SMALL = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
CROSSED = {
    "patch_size": (12, 14),
    "embed_dim": (24, 36),
    "depth": ((1, 2, 0), (2, 2, 0)),
    "num_heads": (3, 2),
}
FAMILIES = {
    "plain": ("vit_tiny_patch16_224", SMALL),
    "distilled": ("deit_tiny_distilled_patch16_224", SMALL),
    "registers": ("vit_tiny_patch16_224", {**SMALL, "reg_tokens": 4}),
    "scaled": ("vit_tiny_patch16_224", {**SMALL, "init_values": 0.3, "qk_norm": True}),
    "gated": ("vit_tiny_patch16_224", {**SMALL, "mlp_layer": "swiglu"}),
    "crossvit": ("crossvit_tiny_240", CROSSED),
    "crossvit, pooled": ("crossvit_tiny_240", {**CROSSED, "global_pool": "avg"}),
}

SIZES = {"crossvit": 60, "crossvit, pooled": 60}  # and 56 for the second stream
# Of CrossViT: chains of 1 and 2 blocks and two fusions; then 2 and 2, and two.
STARTS = {"crossvit": range(11)}


def size_of(family: str) -> int:
    return SIZES.get(family, 32)


def images_for(family: str, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size_of(family), size_of(family))


def make(family: str) -> Classifier:
    torch.manual_seed(3)
    name, options = FAMILIES[family]
    if "mlp_layer" in options:
        from timm.layers import SwiGLU

        options = {**options, "mlp_layer": SwiGLU}
    model = load_model(name, pretrained=False, image_size=size_of(family), num_classes=5, **options)
    for name, weight in model.named_parameters():
        if name.endswith("gamma"):  # factors that differ from channel to channel
            nn.init.uniform_(weight, 0.2, 1.5)
    return model.eval()


def record(classifier: nn.Module, images: Tensor):
    return record_forward(
        classifier, images, attention=True, inputs_suffice=True, weight_gradients=False
    )


@pytest.mark.parametrize("share", [0.0, 1e3], ids=["made again", "graphs kept"])
@pytest.mark.parametrize("family, start", [(f, s) for f in FAMILIES for s in STARTS.get(f, (0, 1))])
def test_maps_are_those_of_whole_maps(family: str, start: int, share: float, monkeypatch) -> None:
    classifier, images = make(family).double(), images_for(family).double()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    assert record(classifier, images).halves is not None
    expected = vitreous.explain(classifier, images, 1, start_layer=start)
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1)
    monkeypatch.setattr("vitreous.models.halves.PIECE", 5)
    monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", share)
    monkeypatch.setattr("vitreous.models.halves.KEPT_LEAST", 0)
    monkeypatch.setattr(blockwise, "BLOCK_NUMBERS", {"cpu": 100})
    monkeypatch.setattr(blockwise, "LEAST_ROWS", 1)
    found = vitreous.explain(classifier, images, 1, start_layer=start)
    assert expected.relevance.std() > 0.01
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-10)
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())


def kept_by(classifier: Classifier, images: Tensor) -> PlainPass:
    made = record(classifier, images).halves
    assert isinstance(made, PlainPass)
    return made


def test_no_graph_of_a_block_is_kept(monkeypatch) -> None:
    """Two inputs a block are held, and what belongs to the head."""
    monkeypatch.setattr("vitreous.models.halves.KEPT_LEAST", 0)
    classifier, images, saved = make("plain"), torch.rand(2, 3, 32, 32), []

    weights = {parameter.data_ptr() for parameter in classifier.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        chain = kept_by(classifier, images).chain
    # Two images' class token in the last MLP.
    assert max(saved) <= 2 * 96
    assert chain.inputs.shape == chain.middles.shape == (3, 2, 17, 24)


def test_graphs_of_mlps_fill_their_share_of_what_maps_would_take(monkeypatch) -> None:
    """By arithmetic: 17 tokens, 3 layers of 3 heads, batches of 2; blocks of 24 and MLPs of 96."""
    classifier, images = make("plain"), torch.rand(2, 3, 32, 32)
    maps, halves, mlp = 2 * 2 * 3 * 3 * 17 * 17, 2 * 2 * 3 * 17 * 24, 2 * 17 * 96
    for kept, by_share in itertools.product(range(3), (True, False)):
        for factor, expected in ((1.001, kept), (0.999, max(0, kept - 1))):
            numbers = (halves + mlp * kept) * factor
            least, share = (0, numbers / maps) if by_share else (numbers, 0)
            monkeypatch.setattr("vitreous.models.halves.KEPT_LEAST", least)
            monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", share)
            chain = kept_by(classifier, images).chain
            # The last MLP, of a class token only, needs no room.
            assert sorted(chain.graphs) == list(range(2 - expected, 3))
    monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", 1e3)
    assert len(kept_by(classifier, images).chain.graphs) == 3


def test_the_last_chains_graphs_have_room_first(monkeypatch) -> None:
    """By arithmetic: streams of 26 and 17 tokens, 24 and 36 wide, with MLPs four times as wide."""
    classifier, images = make("crossvit"), images_for("crossvit")
    halves = 2 * 2 * (3 * 26 * 24 + 4 * 17 * 36)
    wide, narrow = 2 * 26 * 96, 2 * 17 * 144
    monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", 0)
    room, kept = halves, [0, 0, 0, 0]
    for chain in (3, 3, 2, 2, 1, 1, 0):
        room += narrow if chain % 2 else wide
        kept[chain] += 1
        for numbers in (room - 1, room):
            monkeypatch.setattr("vitreous.models.halves.KEPT_LEAST", numbers)
            graphs = [len(c.graphs) for c in chains_of(record(classifier, images).halves)]
            assert (graphs == kept) is (numbers == room)


def chains_of(halves: object) -> list[Chain]:
    if isinstance(halves, PlainPass):
        return [halves.chain]
    assert isinstance(halves, CrossVitPass)
    return [chain for stage in halves.stages for chain in stage.chains]


@pytest.mark.parametrize("family", ["plain", "crossvit"])
def test_a_kept_graph_serves_twice_where_it_is_retained_and_is_let_go_elsewhere(
    family: str, monkeypatch
) -> None:
    monkeypatch.setattr("vitreous.models.halves.KEPT_SHARE", 1e3)
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1)
    classifier, images = make(family), images_for(family)
    layout = layout_of(classifier.net, (images.shape[-2], images.shape[-1]))
    for retain in (True, False):
        made = record(classifier, images)
        chains = chains_of(made.halves)
        options = {"retain_graph": retain}
        first = recorded_pass(made, torch.tensor([1, 1]), layout, **options)
        maps = METHODS["gradient_attention"](first)
        assert [len(c.graphs) for c in chains] == [len(c.blocks) * retain for c in chains]
        if retain:
            again = METHODS["gradient_attention"](first)
            assert torch.equal(again, maps)
            assert all(len(c.graphs) == len(c.blocks) for c in chains)


@pytest.mark.parametrize("family", ["plain", "crossvit"])
def test_half_precision_is_close_and_float16_takes_another_way(family: str, monkeypatch) -> None:
    classifier, images = make(family), images_for(family)
    expected = vitreous.relevance(classifier, images, 1)
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert record(classifier, images).halves is not None
        torch.testing.assert_close(
            vitreous.relevance(classifier, images, 1), expected, rtol=0, atol=0.1
        )
    with torch.autocast("cpu", torch.float16):
        assert record(classifier, images).halves is None


@pytest.mark.parametrize(
    "family, what",
    [
        *itertools.product(("plain", "crossvit"), ("training", "a hook", "gradients")),
        ("plain", "another pool"),
    ],
)
def test_what_is_more_than_plain_takes_another_way(family: str, what: str) -> None:
    classifier, images = make(family), images_for(family, 1)
    assert can_halve(classifier.net)
    handle: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if what == "training":
        classifier.train()
    elif what == "a hook":
        layers = classifier.net.blocks[0]
        part = layers.mlp if family == "plain" else layers.fusion[1].attn.wk
        handle = part.register_forward_hook(lambda *_: None)
    elif what == "another pool":
        classifier.net.global_pool = "avg"
    with handle:
        options = {"weight_gradients": what == "gradients"}
        made = record_forward(classifier, images, attention=True, inputs_suffice=True, **options)
    assert made.halves is None and made.recorded
