"""A pass that keeps little, for maps of long images: plain Vision Transformers and CrossViT.

The blocks are chains (`halves`). CrossViT has two in each stage, and a fusion behind them whose one
query is cheap: it is computed again with its graph on the way back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch
from timm.models.crossvit import CrossAttention, CrossAttentionBlock, CrossVit, MultiScaleBlock
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.models import head_tokens
from vitreous.models.attention import WHOLE
from vitreous.models.halves import (
    Chain,
    ConstantWeights,
    ShownAttention,
    Visitor,
    can_chain,
    pass_through,
    rooms,
)
from vitreous.models.layout import Network
from vitreous.models.timm_blocks import is_foreign


class HalvedPass(Protocol):
    """What a pass keeps to be carried back."""

    @property
    def last(self) -> tuple[Tensor, ...]:
        """What the graph of the logits starts from, one (B, tokens, width) for each stream."""
        ...

    @property
    def layers(self) -> int:
        """How many attention layers there are."""
        ...

    def carry_back(
        self, gradients: list[Tensor], visit: Visitor, start: int = 0, retain_graph: bool = False
    ) -> None:
        """Derive the layers from the last to the start layer; each attention is shown once.

        Args:
            gradients: Of the score, for `last`.
            visit: Is shown each attention and returns its derivatives; None for the first.
            start: The first layer that is wanted.
            retain_graph: Keep what makes another time quicker.
        """


def can_halve(net: Network) -> bool:
    """Whether a network at evaluation is made of plain blocks, and nobody watches its modules."""
    if net.training or any(is_foreign(part) for part in net.modules()):
        return False
    if type(net) is CrossVit:
        return hasattr(net, "_embed") and all(_can_halve_stage(stage) for stage in net.blocks)
    return head_tokens.read_by_head(net) > 0 and can_chain(net.blocks)


def halved_pass(net: Network, x: Tensor) -> tuple[Tensor, HalvedPass]:
    """Logits (B, C) of normalised images (B, 3, H, W) by a network that `can_halve`."""
    return _crossvit_pass(net, x) if type(net) is CrossVit else _plain_pass(net, x)


@dataclasses.dataclass(frozen=True)
class PlainPass:
    """A halved pass of a plain Vision Transformer."""

    chain: Chain
    last: tuple[Tensor]

    @property
    def layers(self) -> int:
        """How many attention layers there are."""
        return len(self.chain.blocks)

    def carry_back(
        self, gradients: list[Tensor], visit: Visitor, start: int = 0, retain_graph: bool = False
    ) -> None:
        """Derive the layers from the last to the start layer; each attention is shown once."""
        self.chain.carry_back(gradients[0], visit, start, retain_graph=retain_graph)


def _plain_pass(net: Network, x: Tensor) -> tuple[Tensor, PlainPass]:
    tokens = head_tokens.read_by_head(net)
    with torch.no_grad():
        x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(x))))
        names = [f"blocks.{number}.attn" for number in range(len(net.blocks))]
        # The very last MLP has few tokens, and needs no room: one more than that.
        (room,) = rooms([(net.blocks, x.shape)])
        x, chain = pass_through(net.blocks, names, x, tokens, room + 1)
    with torch.enable_grad():
        last = x.detach().requires_grad_()
        return net.forward_head(net.norm(last)), PlainPass(chain, (last,))


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is kept of one of CrossViT's stages: each stream's chain, then the fusion.

    Attributes:
        number: Which stage.
        begin: The first of its attention layers.
        block: timm's stage.
        chains: Of the streams.
        classes: The CLS token (B, 1, width) that each chain gave.
        patches: And its patches.
    """

    number: int
    begin: int
    block: Network
    chains: tuple[Chain, ...]
    classes: tuple[Tensor, ...]
    patches: tuple[Tensor, ...]

    def carry_back(
        self, gradients: list[Tensor], visit: Visitor, start: int, retain_graph: bool
    ) -> list[Tensor]:
        """The gradients for what went in; empty where nothing is wanted there."""
        gradients = list(gradients)
        fusions = self.begin + sum(len(chain.blocks) for chain in self.chains)
        of_classes = [gradient[:, :1] for gradient in gradients]
        for branch in reversed(range(len(self.chains))):
            if fusions + branch < start:
                return []  # then nothing before it is wanted either
            other = (branch + 1) % len(self.chains)
            of_class, of_patches = self._derive_fusion(branch, of_classes[branch], visit)
            of_classes[branch] = of_class
            gradients[other] = gradients[other].clone()
            gradients[other][:, 1:] += of_patches
        derived, onward, after = [], start < self.begin, fusions
        for chain, own, of_class in zip(
            reversed(self.chains), reversed(gradients), reversed(of_classes)
        ):
            after -= len(chain.blocks)
            wanted = max(0, start - after)
            if wanted < len(chain.blocks):
                own[:, :1] = of_class
                derived.append(chain.carry_back(own, visit, wanted, onward, retain_graph))
        return [d for d in reversed(derived) if d is not None] if onward else []

    def _derive_fusion(
        self, branch: int, gradient: Tensor, visit: Visitor
    ) -> tuple[Tensor, Tensor]:
        """Show one fusion; the gradients for its CLS token and for the other stream's patches."""
        other = (branch + 1) % len(self.chains)
        own, patches = (t.detach() for t in (self.classes[branch], self.patches[other]))
        own.requires_grad_(), patches.requires_grad_()
        with torch.enable_grad(), ConstantWeights():
            made, mixed, parts = _fuse(self.block, branch, own, patches)
        of_mixed, *derived = torch.autograd.grad(made, (mixed, own, patches), gradient)
        name = f"blocks.{self.number}.fusion.{branch}.attn"
        parts = tuple(part.detach() for part in parts)
        scale = self.block.fusion[branch].attn.scale
        visit(ShownAttention(name, *parts, of_mixed, scale, WHOLE, True))
        return derived[0], derived[1]


@dataclasses.dataclass(frozen=True)
class CrossVitPass:
    """A halved pass of a CrossViT (Chen et al. 2021)."""

    stages: tuple[Stage, ...]
    last: tuple[Tensor, ...]

    @property
    def layers(self) -> int:
        """How many attention layers there are."""
        chains = sum(len(chain.blocks) for stage in self.stages for chain in stage.chains)
        return chains + sum(len(stage.chains) for stage in self.stages)

    def carry_back(
        self, gradients: list[Tensor], visit: Visitor, start: int = 0, retain_graph: bool = False
    ) -> None:
        """Derive the layers from the last to the start layer; each attention is shown once."""
        for stage in reversed(self.stages):
            gradients = stage.carry_back(gradients, visit, start, retain_graph)
            if not gradients:
                return


def _can_halve_stage(stage: Network) -> bool:
    if type(stage) is not MultiScaleBlock or len(stage.blocks) != stage.num_branches:
        return False
    alone = all(
        type(f) is CrossAttentionBlock and type(f.attn) is CrossAttention for f in stage.fusion
    )
    return alone and all(type(c) is nn.Sequential and can_chain(c) for c in stage.blocks)


def _crossvit_pass(net: Network, x: Tensor) -> tuple[Tensor, CrossVitPass]:
    with torch.no_grad():
        xs = net._embed(x)
        room = rooms([(c, x.shape) for block in net.blocks for c, x in zip(block.blocks, xs)])
        chains, classes = [], []
        for number, block in enumerate(net.blocks):
            xs, made = _through_chains(block, number, xs, room[number * len(xs) :])
            chains.append(made)
            classes.append(tuple(x[:, :1].clone() for x in xs))
            for branch, own in enumerate(classes[-1]):
                others = xs[(branch + 1) % len(xs)][:, 1:]
                # In place: the patches stay as they are.
                xs[branch][:, :1] = _fuse(block, branch, own, others)[0]
    with torch.enable_grad():
        last = tuple(x.detach().requires_grad_() for x in xs)
        normed = [norm(x) for norm, x in zip(net.norm, last)]
        return net.forward_head(normed), CrossVitPass(_stages(net, chains, classes, last), last)


def _through_chains(
    block: Network, number: int, xs: Sequence[Tensor], room: Sequence[int]
) -> tuple[list[Tensor], tuple[Chain, ...]]:
    """What the chains of a stage make of each stream, and what was kept of them."""
    passed = []
    for branch, (blocks, x) in enumerate(zip(block.blocks, xs)):
        names = [f"blocks.{number}.blocks.{branch}.{i}.attn" for i in range(len(blocks))]
        passed.append(pass_through(blocks, names, x, x.shape[1], room[branch]))
    return [made for made, _ in passed], tuple(chain for _, chain in passed)


def _stages(
    net: Network,
    chains: Sequence[tuple[Chain, ...]],
    classes: Sequence[tuple[Tensor, ...]],
    last: tuple[Tensor, ...],
) -> tuple[Stage, ...]:
    stages, begin = [], 0
    for number, (made, own) in enumerate(zip(chains, classes)):
        after = number + 1 < len(chains)
        # What a stage gives goes into the next one's chains, and is kept there.
        given = [chain.inputs[0] for chain in chains[number + 1]] if after else last
        patches = tuple(x.detach()[:, 1:] for x in given)
        stages.append(Stage(number, begin, net.blocks[number], made, own, patches))
        begin += sum(len(chain.blocks) for chain in made) + len(made)
    return tuple(stages)


def _fuse(
    block: Network, branch: int, own: Tensor, patches: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """A stream's CLS token (B, 1, width) that has read itself and another stream's patches.

    Returns:
        The token, what the attention gave (B, heads, 1, d), and its queries, keys and values.
    """
    fusion = block.fusion[branch]
    layer, x = fusion.attn, torch.cat((block.projs[branch](own), patches), 1)
    normed = fusion.norm1(x)
    parts = layer.wq(normed[:, :1]), layer.wk(normed), layer.wv(normed)
    q, k, v = (p.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for p in parts)
    mixed = F.scaled_dot_product_attention(q, k, v, scale=layer.scale)
    fused = x[:, :1] + layer.proj(mixed.transpose(1, 2).flatten(2))
    return block.revert_projs[branch](fused), mixed, (q, k, v)
