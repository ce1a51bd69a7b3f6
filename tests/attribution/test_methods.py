"""The other methods, of one and of two token streams, against whole matrices and loops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import vitreous
from vitreous.attribution import explain, min_max, relevance
from vitreous.attribution.maps import combine_streams, stream_map
from vitreous.attribution.scores import foreground_share, pointing_hits
from vitreous.errors import VitreousError
from vitreous.models.families import Layout, Stream, layout_of

SIZE = 48
OPTIONS = {
    "vit": ("vit_tiny_patch16_224", dict(patch_size=12, embed_dim=24, depth=3, num_heads=3)),
    "registers": (
        "vit_small_patch14_reg4_dinov2",
        dict(patch_size=12, embed_dim=24, depth=2, num_heads=3, reg_tokens=4),
    ),
    "average": (
        "vit_tiny_patch16_224",
        dict(patch_size=12, embed_dim=24, depth=2, num_heads=3, global_pool="avg"),
    ),
    "crossvit": (
        "crossvit_tiny_240",
        dict(
            img_scale=(1.0, 32 / 48),
            patch_size=(12, 8),
            embed_dim=(12, 24),
            depth=((1, 2, 1), (2, 1, 1)),
            num_heads=(2, 2),
        ),
    ),
}


def make(kind: str) -> vitreous.Classifier:
    name, options = OPTIONS[kind]
    model = vitreous.load_model(name, pretrained=False, img_size=SIZE, num_classes=4, **options)
    for parameter in model.parameters():  # larger weights: attention far from uniform
        parameter.data.mul_(3.0 if parameter.ndim > 1 else 1.0)
    return model.double()


@dataclasses.dataclass
class Pass:
    """One pass's maps and their gradients as matrices over the joined tokens of all streams."""

    layout: Layout
    names: list[str]
    maps: list[Tensor]
    gradients: list[Tensor]

    @property
    def offsets(self) -> list[int]:
        return np.cumsum([0, *(s.tokens for s in self.layout.streams)]).tolist()

    def whole(self, name: str, cam: Tensor) -> Tensor:
        """A layer's (B, queries, keys) among all tokens."""
        offsets = self.offsets
        mixing = self.layout.layers[name.removeprefix("net.")]
        own, other = offsets[mixing.queries], offsets[mixing.keys]
        full = cam.new_zeros(len(cam), offsets[-1], offsets[-1])
        if own == other:
            end = own + cam.shape[1]
            full[:, own:end, own : own + cam.shape[2]] = cam
        else:
            full[:, own, own] = cam[:, 0, 0]
            full[:, own, other + 1 : other + cam.shape[2]] = cam[:, 0, 1:]
        return full

    def start(self) -> Tensor:
        return torch.cat([s.start for s in self.layout.streams]).double()

    def laid(self, row: Tensor) -> Tensor:
        """Patches of a row (B, all tokens) as maps of the image."""
        total = 0
        for stream, first in zip(self.layout.streams, self.offsets):
            patches = row[:, first + stream.prefix : first + stream.tokens]
            patches = patches.reshape(len(row), 1, *stream.grid)
            total = total + F.interpolate(patches, size=(SIZE, SIZE), mode="bilinear")
        return total


def recorded(model: vitreous.Classifier, images: Tensor, target: int) -> Pass:
    with vitreous.record_attention(model) as trace:
        score = model(images)[:, target].sum()
        gradients = torch.autograd.grad(score, trace.maps)
    maps = [m.detach() for m in trace.maps]
    return Pass(layout_of(model.net, (SIZE, SIZE)), list(trace.names), maps, list(gradients))


def rolled_out(made: Pass, cams: list[Tensor]) -> Tensor:
    total = made.offsets[-1]
    identity = torch.eye(total, dtype=torch.float64)
    matrix = identity
    for name, cam in zip(made.names, cams):
        mixed = made.whole(name, cam) + identity
        matrix = (mixed / mixed.sum(-1, keepdim=True)) @ matrix
    return made.laid(torch.einsum("t,btk->bk", made.start(), matrix))


def last(made: Pass, values: list[Tensor]) -> dict[int, tuple[int, Tensor]]:
    """Stream → the stream of its keys, and (B, heads, patches) that the head's query sees."""
    rows = {}
    for name, value in zip(made.names, values):
        mixing = made.layout.layers[name.removeprefix("net.")]
        keys, start = made.layout.streams[mixing.keys], made.layout.streams[mixing.queries].start
        if value.shape[-1] == 1:
            continue
        if mixing.queries != mixing.keys:
            rows[mixing.queries] = (mixing.keys, value[:, :, 0, 1:])
        else:
            start = start.double()[: value.shape[2]]
            row = torch.einsum("q,bhqk->bhk", start, value)
            rows[mixing.queries] = (mixing.keys, row[..., keys.prefix :])
    return rows


def seen(made: Pass, patches: list[tuple[int, Tensor]]) -> Tensor:
    row = torch.zeros(len(patches[0][1]), made.offsets[-1], dtype=torch.float64)
    for stream, values in patches:
        first = made.offsets[stream] + made.layout.streams[stream].prefix
        row[:, first : first + values.shape[1]] += values
    return made.laid(row)


def expected(method: str, made: Pass) -> Tensor:
    pairs = list(zip(made.maps, made.gradients))
    if method == "rollout":
        return rolled_out(made, [m.mean(1) for m in made.maps])
    if method == "gradient_rollout":
        return rolled_out(made, [(m * g).mean(1).clamp(min=0) for m, g in pairs])
    attention, gradients = last(made, made.maps), last(made, made.gradients)
    if method == "raw_attention":
        return seen(made, [(stream, a.mean(1)) for stream, a in attention.values()])
    weighed = []
    for key, (stream, a) in attention.items():
        channel = gradients[key][1].mean(-1)
        cam = torch.stack([a[:, h] * channel[:, h, None] for h in range(a.shape[1])]).mean(0)
        weighed.append((stream, cam.clamp(min=0)))
    return seen(made, weighed)


@pytest.mark.parametrize("method", ["rollout", "gradient_rollout", "raw_attention", "grad_cam"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_maps_are_those_of_whole_matrices(kind: str, method: str) -> None:
    model, images = make(kind), torch.rand(2, 3, SIZE, SIZE, dtype=torch.float64)
    made = recorded(model, images, 1)
    maps = expected(method, made)
    assert method == "grad_cam" or maps.std() > 0
    found = relevance(model, images, 1, method)
    torch.testing.assert_close(found, min_max(maps)[0], rtol=0, atol=1e-5)


def test_streams_are_laid_where_they_look_and_summed() -> None:
    """A stream that saw the middle of the image alone has nothing to say of the rim."""
    one = Stream(prefix=1, grid=(2, 2), start=torch.eye(5)[0])
    middle = dataclasses.replace(one, cover=(0.6, 0.5))
    rows = torch.tensor([[9.0, 1.0, 2.0, 3.0, 4.0]])
    found = stream_map(rows, middle, (10, 12))
    assert found.shape == (1, 1, 10, 12)
    inner = F.interpolate(rows[:, 1:].view(1, 1, 2, 2), size=(6, 6), mode="bilinear")
    assert torch.allclose(found[:, :, 2:8, 3:9], inner)
    assert found.sum() == pytest.approx(inner.sum().item())
    odd = stream_map(rows, dataclasses.replace(one, cover=(0.5, 0.5)), (9, 11))
    inner = F.interpolate(rows[:, 1:].view(1, 1, 2, 2), size=(4, 6), mode="bilinear")
    assert torch.allclose(odd[:, :, 2:6, 2:8], inner)
    whole = stream_map(rows, one, (10, 12))
    layout = Layout((one, middle, one), {})
    total = combine_streams([rows, rows, 2 * rows], layout, (10, 12))
    assert torch.allclose(total, found + 3 * whole)


def test_maps_are_scaled_one_by_one() -> None:
    maps = torch.tensor([[1.0, 3.0, 2.0], [-4.0, 0.0, -2.0], [5.0, 5.0, 5.0]])[:, None, None]
    maps = torch.cat([maps, torch.full((1, 1, 1, 3), torch.nan)])
    scaled, constant = min_max(maps)
    assert scaled[:, 0, 0].tolist() == [[0, 1, 0.5], [0, 1, 0.5], [0, 0, 0], [0, 0, 0]]
    assert constant.tolist() == [False, False, True, True]


def test_the_pointing_game_is_a_loop_over_pixels() -> None:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randint(0, 6, (60, 1, 9, 13), generator=generator).float()
    masks = (torch.rand(60, 1, 9, 13, generator=generator) < 0.02).float()
    masks[0] = 0
    masks[1] = 0.5  # half is not foreground
    for tolerance in (0, 1, 2, 3, 15):
        hits = []
        for relevance_map, mask in zip(maps[:, 0].tolist(), masks[:, 0].tolist()):
            top = max(max(row) for row in relevance_map)
            y, x = next((y, x) for y in range(9) for x in range(13) if relevance_map[y][x] == top)
            hits.append(
                float(
                    any(
                        mask[i][j] > 0.5
                        and (
                            (i - y) ** 2 + (j - x) ** 2 < tolerance**2
                            if tolerance
                            else (i, j) == (y, x)
                        )
                        for i in range(9)
                        for j in range(13)
                    )
                )
            )
        assert pointing_hits(maps, masks, tolerance).tolist() == hits
    wide = torch.zeros(2, 1, 1, 40)
    wide[..., 0] = 1
    masks = torch.zeros(2, 1, 1, 40)
    masks[0, ..., 14], masks[1, ..., 15] = 1, 1
    assert pointing_hits(wide, masks).tolist() == [1.0, 0.0]  # 15 pixels is no longer near


def test_the_share_on_the_foreground_is_added_up_in_float32() -> None:
    maps = torch.zeros(2, 1, 30, 100, dtype=torch.float16)
    maps[0] = 60.0  # a sum of 180,000, past float16
    masks = torch.zeros(2, 1, 30, 100)
    masks[..., :25] = 1
    share = foreground_share(maps, masks)
    assert share.dtype == torch.float32
    assert share.tolist() == pytest.approx([0.25, 0.0])


def test_targets_of_every_form_name_classes() -> None:
    model, images = make("vit").float(), torch.rand(3, 3, SIZE, SIZE)
    made = explain(model, images)
    assert torch.equal(made.target, made.logits.argmax(1))
    assert not made.relevance.requires_grad and not made.logits.requires_grad
    assert made.constant.tolist() == [False] * 3
    several = explain(model, images, [3, 0, 1])
    assert several.target.tolist() == [3, 0, 1]
    for row, target in enumerate([3, 0, 1]):
        alone = explain(model, images[row : row + 1], target)
        assert alone.target.tolist() == [target]
        assert torch.allclose(alone.relevance, several.relevance[row : row + 1], atol=1e-4)
    assert explain(model, images, torch.tensor(2)).target.tolist() == [2, 2, 2]


def test_a_wrong_target_or_image_is_told_with_what_was_expected() -> None:
    model, images = make("vit").float(), torch.rand(3, 3, SIZE, SIZE)
    for target, message in {
        (0, 1): r"each of the 3 images, found shape \(2,\)",
        (0, 4, 1): "class 4 does not exist: the model has 4 classes, 0 to 3",
        (0, 1, -1): "class -1 does not exist",
    }.items():
        with pytest.raises(VitreousError, match=message):
            relevance(model, images, list(target))
    for wrong in (images[0], images[:, :2], (images * 255).byte()):
        with pytest.raises(VitreousError, match=r"expected float pictures \(B, 3, H, W\)"):
            relevance(model, wrong)


def test_a_graph_is_kept_where_a_loss_shall_use_the_maps() -> None:
    model, images = make("vit").float(), torch.rand(2, 3, SIZE, SIZE)
    for method in ("gradient_attention", "rollout", "gradient_rollout", "input_gradient"):
        assert not relevance(model, images, 0, method).requires_grad
        second = relevance(model, images, 0, method, second_order=True)
        model.zero_grad()
        second.square().mean().backward()
        weight = model.net.blocks[0].attn.qkv.weight
        assert weight.grad is not None and weight.grad.abs().sum() > 0


def test_a_loss_uses_the_model_in_its_own_mode_and_a_look_does_not() -> None:
    modes = []
    model, images = make("vit").float(), torch.rand(2, 3, SIZE, SIZE)
    model.train()
    model.net.blocks[0].register_forward_hook(lambda m, *_: modes.append(m.training))
    relevance(model, images)
    relevance(model, images, differentiable=True)
    assert modes == [False, True] and model.training
