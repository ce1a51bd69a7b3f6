"""Transformer attribution: relevance that is carried down to each attention map, × its gradient."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.attribution.base import METHODS, RecordedPass
from vitreous.attribution.maps import stream_map
from vitreous.attribution.plain_vit import not_plain_vit
from vitreous.errors import VitreousError
from vitreous.models.attention import record_attention
from vitreous.models.families import layout_of
from vitreous.models.layout import Network

TINY = 1e-9


@dataclasses.dataclass
class BlockValues:
    """What one block computed: everything that a rule divides by.

    Attributes:
        entering: (B, N, C) that come into the block.
        attended: (B, N, C) that its attention adds.
        middle: Their sum.
        mixed: (B, N, C) that the attention's last linear layer reads.
        normed: What queries, keys and values are made of.
        queries, keys: (B, heads, N, d).
        qkv: (B, N, 3 C).
        wide: What the second layer of the MLP reads.
        narrow: What its first layer reads.
        added: (B, N, C) that the MLP adds.
    """

    entering: Tensor
    attended: Tensor
    middle: Tensor
    mixed: Tensor
    normed: Tensor
    queries: Tensor
    keys: Tensor
    qkv: Tensor
    wide: Tensor
    narrow: Tensor
    added: Tensor


@contextlib.contextmanager
def recorded_values(net: Network) -> Generator[dict[str, Tensor]]:
    """Record what goes into and comes out of the parts of a plain Vision Transformer's blocks.

    Yields:
        `PLACE.FIELD` of `BlockValues` → values, and `features`, which the head reads.
    """
    values: dict[str, Tensor] = {}
    handles = []

    def keep(module: nn.Module, name: str, before: bool = False) -> None:
        def hook(_: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            values[name] = (arguments[0] if before else output).detach()

        handles.append(module.register_forward_hook(hook))

    for place, block in enumerate(net.blocks):
        keep(block.norm1, f"{place}.entering", before=True)
        keep(block.norm1, f"{place}.normed")
        keep(block.attn.qkv, f"{place}.qkv")
        keep(block.attn.q_norm, f"{place}.queries")
        keep(block.attn.k_norm, f"{place}.keys")
        keep(block.attn.proj, f"{place}.mixed", before=True)
        keep(block.drop_path1, f"{place}.attended")
        keep(block.norm2, f"{place}.middle", before=True)
        keep(block.norm2, f"{place}.narrow")
        keep(block.mlp.fc2, f"{place}.wide", before=True)
        keep(block.drop_path2, f"{place}.added")
    keep(net.head, "features", before=True)
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()


def divide(values: Tensor, by: Tensor) -> Tensor:
    """Values by others, held off zero; zero where there is nothing to divide by."""
    return values / (by + torch.where(by < 0, -TINY, TINY)) * (by != 0)


def through_linear(relevance: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """A linear layer (eq. 5): inputs have shares by what they contribute, where that is positive.

    Args:
        relevance: (…, out).
        values: (…, in) that the layer read.
        weight: (out, in).
    """
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    high, low = values.clamp(min=0), values.clamp(max=0)
    share = divide(relevance, F.linear(high, up) + F.linear(low, down))
    return high * (share @ up) + low * (share @ down)


def through_product(relevance: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix product (eq. 8-10): each factor has its half, by gradient × input."""
    share = divide(relevance, left @ right)
    return left * (share @ right.mT) / 2, right * (left.mT @ share) / 2


def through_sum(relevance: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """A skip connection (eq. 8-10): by gradient × input, each scaled by its part of the whole."""
    share = divide(relevance, left + right)
    parts = [left * share, right * share]
    sums = [part.sum((1, 2), keepdim=True) for part in parts]
    total, whole = relevance.sum((1, 2), keepdim=True), sums[0].abs() + sums[1].abs()
    first, second = (
        part * divide(divide(own.abs(), whole) * total, own) for part, own in zip(parts, sums)
    )
    return first, second


def through_block(
    relevance: Tensor, block: Network, values: BlockValues, attention: Tensor
) -> tuple[Tensor, Tensor]:
    """Relevance of what left a block → of what came in (B, N, C), and of its attention map."""
    skipped, added = through_sum(relevance, values.middle, values.added)
    added = through_linear(added, values.wide, block.mlp.fc2.weight)
    middle = skipped + through_linear(added, values.narrow, block.mlp.fc1.weight)
    skipped, attended = through_sum(middle, values.entering, values.attended)
    mixed = through_linear(attended, values.mixed, block.attn.proj.weight)
    shape = (3, block.attn.num_heads, block.attn.head_dim)
    value = values.qkv.unflatten(-1, shape)[:, :, 2].transpose(1, 2)
    mixed = mixed.unflatten(-1, shape[1:]).transpose(1, 2)
    of_map, of_value = through_product(mixed, attention, value)
    of_query, of_key = through_product(of_map, values.queries, values.keys.mT)
    parts = torch.stack([of_query, of_key.mT, of_value]).permute(1, 3, 0, 2, 4).flatten(2)
    entering = skipped + through_linear(parts, values.normed, block.attn.qkv.weight)
    return entering, of_map


class TransformerAttribution:
    """Transformer attribution (Chefer et al. 2021, "Beyond Attention Visualization", eq. 13-14).

    `Ā_b = I + mean over heads of relu(∂score/∂A_b ∘ R_b)`, `C = Ā_1 Ā_2 ⋯ Ā_B`, where R_b is the
    relevance of the map A_b by layer-wise propagation from the class; the map is row CLS of C.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"model"})

    def unfit(self, net: Network, _: tuple[int, int]) -> str:
        """Why it does not hold: see `vitreous.attribution.base.unfit`."""
        return not_plain_vit(net, "transformer_attribution")

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        net: Network = recorded.model.net
        stream = layout_of(net, recorded.size).streams[0]
        pairs = attention_relevance(recorded, net)
        row = F.one_hot(torch.zeros((), dtype=torch.int64), stream.tokens)
        row = row.to(recorded.images).expand(len(recorded.images), -1)[:, None]
        for relevance, gradient in reversed(pairs[recorded.start_layer :]):
            row = row + row @ (relevance * gradient).relu().mean(1)
        return stream_map(row[:, 0], stream, recorded.size)


def attention_relevance(recorded: RecordedPass, net: Network) -> list[tuple[Tensor, Tensor]]:
    """For each block the relevance of its attention map and its gradient (B, heads, N, N)."""
    with (
        torch.enable_grad(),
        record_attention(recorded.model) as trace,
        recorded_values(net) as values,
    ):
        logits = recorded.model(recorded.images.detach())
        score = recorded.scores_of(logits).sum()
        (start,) = torch.autograd.grad(score, logits, retain_graph=True)
        if (start.sum(1) == 0).any():
            raise VitreousError(
                "transformer_attribution explains one class: relevance of a difference sums to 0, "
                "and nothing of it passes a skip connection; use gradient_attention"
            )
        gradients = trace.gradients(score, retain_graph=False)
    with torch.no_grad():
        return _carry(net, start, values, [m.detach() for m in trace.maps], gradients)


def _carry(
    net: Network,
    start: Tensor,
    values: dict[str, Tensor],
    maps: Sequence[Tensor],
    gradients: Sequence[Tensor],
) -> list[tuple[Tensor, Tensor]]:
    """Carry the relevance of the logits back through all blocks."""
    read = through_linear(start, values["features"], net.head.weight)
    relevance = F.pad(read[:, None], (0, 0, 0, maps[0].shape[-1] - 1))
    fields = [field.name for field in dataclasses.fields(BlockValues)]
    pairs = []
    for place in reversed(range(len(maps))):
        own = BlockValues(**{name: values[f"{place}.{name}"] for name in fields})
        relevance, of_map = through_block(relevance, net.blocks[place], own, maps[place])
        pairs.append((of_map, gradients[place]))
    return pairs[::-1]


METHODS.register("transformer_attribution")(TransformerAttribution())
