"""What a relevance method is, and what it gets."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.models.attention import AttentionTrace
from vitreous.models.families import Layout, Mixing
from vitreous.registry import Registry


@dataclasses.dataclass(frozen=True)
class Context:
    """One forward pass, seen by a relevance method.

    Attributes:
        images: (B, 3, H, W) that went in.
        score: Sum over pictures of the target logits: a scalar.
        trace: Attention maps of the pass; empty for methods that do not need them.
        layout: How tokens mix; None for methods that do not need it.
        start_layer: First attention layer that counts; earlier ones are passed over.
        second_order: Make gradients differentiable themselves.
        retain_graph: Keep the graph for a later backward pass.
    """

    images: Tensor
    score: Tensor
    trace: AttentionTrace
    layout: Layout | None
    start_layer: int = 0
    second_order: bool = False
    retain_graph: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        """Type in which relevance is added up: float32, or that of wider maps."""
        return torch.promote_types(self.trace.maps[-1].dtype, torch.float32)

    @property
    def tokens(self) -> Layout:
        """The layout, for methods that said they need attention."""
        if self.layout is None:
            raise RuntimeError("this method needs attention: add 'attention' to its `needs`")
        return self.layout

    def mixings(self) -> list[Mixing]:
        """What each recorded map from the start layer on mixes, checked against the layout.

        Raises:
            UnsupportedModelError: If a map is not one over the tokens that the layout expects.
            VitreousError: If the start layer does not exist.
        """
        layout, count = self.tokens, len(self.trace.maps)
        if not 0 <= self.start_layer < count:
            raise VitreousError(
                f"start layer {self.start_layer} does not exist: the model has {count} attention "
                f"layers, 0 to {count - 1}"
            )
        found = []
        for name, one in zip(self.trace.names, self.trace.maps):
            mixing = layout.layers.get(name.removeprefix("net."))
            if mixing is None or not _fits(one, mixing, layout, name == self.trace.names[-1]):
                raise UnsupportedModelError(
                    f"attention layer '{name}' has a map of shape {tuple(one.shape)}, which is "
                    "not one over all tokens of the picture, so attention relevance does not "
                    "hold for this model; these methods work: input_gradient"
                )
            found.append(mixing)
        return found[self.start_layer :]

    def maps(self) -> list[Tensor]:
        """The recorded maps from the start layer on, each (B, heads, queries, keys).

        Queries of the last map are those tokens only that the head reads, where
        `vitreous.models.head_tokens` could leave out the others, which no logit depends on.
        """
        return self.trace.maps[self.start_layer :]

    def gradients(self) -> list[Tensor]:
        """Gradients of the score with respect to `maps()`, all by one backward pass."""
        return self.trace.gradients(
            self.score,
            create_graph=self.second_order,
            retain_graph=self.retain_graph or self.second_order,
            start=self.start_layer,
        )

    def start_rows(self) -> list[Tensor]:
        """For each stream the row (B, tokens) that the head reads."""
        reference, count = self.trace.maps[-1], self.images.shape[0]
        return [
            s.start.to(reference.device, self.dtype).expand(count, -1) for s in self.tokens.streams
        ]


def _fits(one: Tensor, mixing: Mixing, layout: Layout, last: bool) -> bool:
    stream = layout.streams[mixing.stream]
    queries, keys = one.shape[-2:]
    if mixing.keys == mixing.stream:
        spared = last and queries <= stream.prefix
        return keys == stream.tokens and (queries == stream.tokens or spared)
    other = layout.streams[mixing.keys]
    return one.shape[-2] == 1 and one.shape[-1] in (1, 1 + other.tokens - other.prefix)


class Method(Protocol):
    """A relevance method: what it needs, and a call that returns maps not yet scaled.

    Attributes:
        needs: Any of `attention`, `input_gradients`.
    """

    needs: ClassVar[frozenset[str]]

    def __call__(self, context: Context) -> Tensor:
        """Return maps (B, 1, H, W), larger = more relevant, of any scale."""
        ...


METHODS: Registry[Method] = Registry("relevance method", "vitreous.attribution")
