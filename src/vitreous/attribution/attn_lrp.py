"""AttnLRP and CP-LRP: gradient × input, with the gradient of each operation set by a rule.

Nothing of a class or module is replaced: hooks put factors into the graph that are constants for
the backward pass, and are taken away again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.attribution.base import METHODS, RecordedPass
from vitreous.attribution.maps import stream_map
from vitreous.attribution.path_gradients import gradient_at
from vitreous.attribution.plain_vit import not_plain_vit
from vitreous.models.families import layout_of
from vitreous.models.layout import Network

TINY = 1e-10


@dataclasses.dataclass(frozen=True)
class RelevanceRules:
    """What the gradient of queries and keys, and of values, is multiplied by.

    Attributes:
        scores: Through the product of queries and keys; 0 stops there.
        values: Through the product of attention and values.
    """

    scores: float
    values: float


ATTN_LRP = RelevanceRules(0.25, 0.5)
CP_LRP = RelevanceRules(0.0, 1.0)


@contextlib.contextmanager
def relevance_rules(net: Network, rules: RelevanceRules) -> Generator[None]:
    """Let the gradients of a plain Vision Transformer follow the rules inside the context.

    Logits are unchanged but for rounding, and so is the network afterwards.
    """
    handles = [b.attn.qkv.register_forward_hook(_share_products(rules)) for b in net.blocks]
    handles += [b.mlp.act.register_forward_hook(_pass_function) for b in net.blocks]
    norms = [m for m in net.modules() if isinstance(m, nn.LayerNorm)]
    handles += [norm.register_forward_hook(_hold_deviation) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """The values, through which a gradient is multiplied by a factor."""
    return values.detach() + factor * (values - values.detach())


def _share_products(rules: RelevanceRules) -> Callable[..., Tensor]:
    """Uniform rule of matrix products (eq. 7-8): each factor has its half.

    Queries and keys are halved twice: once for their own product, once for that with the values.
    """

    def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        queries, keys, values = output.chunk(3, -1)
        scores = [scale_gradient(part, rules.scores) for part in (queries, keys)]
        return torch.cat([*scores, scale_gradient(values, rules.values)], -1)

    return hook


def _pass_function(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Identity rule of functions of one number (eq. 9): f(x) = x · (f(x) / x), the factor fixed."""
    values = arguments[0]
    return values * (output / (values + TINY)).detach()


def _hold_deviation(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Layer norm (eq. 10): the standard deviation is a constant."""
    assert isinstance(layer, nn.LayerNorm)
    values = arguments[0]
    centred = values - values.mean(-1, keepdim=True)
    deviation = (centred.detach().square().mean(-1, keepdim=True) + layer.eps).sqrt()
    scaled = centred / deviation
    if layer.weight is not None:
        scaled = scaled * layer.weight
    return scaled if layer.bias is None else scaled + layer.bias


@dataclasses.dataclass(frozen=True)
class AttnLRP:
    """AttnLRP (Achtibat et al. 2024, eq. 5-10), or CP-LRP (Ali et al. 2022).

    `R = x ∘ ∂score/∂x` with x the normalized image, where the backward pass follows the rules:
    ε-rule of linear layers and Taylor rule of the softmax (both are gradient × input), uniform
    rule of products, identity rule of functions of one number and of layer norms. CP-LRP takes
    attention for a constant. A map is what is positive of the sum over each patch.

    Attributes:
        name: The method's.
        rules: Of products.
    """

    name: str
    rules: RelevanceRules
    needs: ClassVar[frozenset[str]] = frozenset({"model"})

    def unfit(self, net: Network, _: tuple[int, int]) -> str:
        """Why it does not hold: see `vitreous.attribution.base.unfit`."""
        return not_plain_vit(net, self.name)

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), not yet scaled."""
        relevance = self.attributions(recorded).sum(1, keepdim=True)
        stream = layout_of(recorded.model.net, recorded.size).streams[0]
        patches = F.adaptive_avg_pool2d(relevance, stream.grid).relu().flatten(1)
        return stream_map(F.pad(patches, (stream.prefix, 0)), stream, recorded.size)

    def attributions(self, recorded: RecordedPass) -> Tensor:
        """Signed relevance (B, 3, H, W) of the normalized image's numbers."""
        net: Network = recorded.model.net
        images = recorded.images.detach()
        with relevance_rules(net, self.rules):
            gradient = gradient_at(recorded, images)
        return gradient * (images - recorded.model.mean)


METHODS.register("attn_lrp")(AttnLRP("attn_lrp", ATTN_LRP))
METHODS.register("cp_lrp")(AttnLRP("cp_lrp", CP_LRP))
