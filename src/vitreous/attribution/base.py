"""What a relevance method is, and what it gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.models import Classifier
from vitreous.models.attention import AttentionTrace, RecordedLayer
from vitreous.models.attention_inputs import AttentionInputs
from vitreous.models.families import layout_of
from vitreous.models.halved_pass import HalvedPass
from vitreous.models.halves import ShownAttention
from vitreous.models.layout import WITHOUT_ATTENTION, Layout, Network, TokenMixing
from vitreous.registry import Registry


@dataclasses.dataclass(frozen=True)
class MixedLayer:
    """A recorded attention layer, and between which token streams it mixes.

    Attributes:
        map: Attention (B, heads, queries, keys).
        mixing: The streams of its queries and keys.
        queries: Which tokens of the query stream the rows of the map are; no logit depends on
            what the others attend to.
    """

    map: Tensor
    mixing: TokenMixing
    queries: slice


@dataclasses.dataclass(frozen=True)
class RecordedPass:
    """One recorded forward pass with the score to explain: all that a relevance method gets.

    Attributes:
        images: (B, 3, H, W) that went in.
        score: Sum over images of the target logits: a scalar.
        attention: Attention maps of the pass; empty for methods that do not need them.
        layout: How tokens mix; None for methods that do not need it.
        start_layer: First attention layer that counts; earlier ones are passed over.
        second_order: Make gradients differentiable themselves.
        retain_graph: Keep the graph for a later backward pass.
        inputs: What the maps are made from, in place of `attention`.
        classifier: The model, for methods that make passes of their own.
        score_of: The score of logits (B, C) of these images, or of others in their place.
        halves: What is carried back block by block, in place of attention and inputs.

    Examples:
        >>> images, nothing = torch.rand(2, 3, 32, 48), AttentionTrace()
        >>> recorded = RecordedPass(images, torch.tensor(0.0), nothing, layout=None)
        >>> recorded.size
        (32, 48)
    """

    images: Tensor
    score: Tensor
    attention: AttentionTrace
    layout: Layout | None
    start_layer: int = 0
    second_order: bool = False
    retain_graph: bool = False
    inputs: tuple[AttentionInputs, ...] = ()
    classifier: Classifier | None = None
    score_of: Callable[[Tensor], Tensor] | None = None
    halves: HalvedPass | None = None

    @property
    def model(self) -> Classifier:
        """The model, for methods that said they need it."""
        if self.classifier is None:
            raise RuntimeError("this method makes passes of its own: add 'model' to its `needs`")
        return self.classifier

    def scores(self, images: Tensor) -> Tensor:
        """Score (B,) of the target for images in place of those that went in."""
        return self.scores_of(self.model(images))

    def scores_of(self, logits: Tensor) -> Tensor:
        """Score (B,) of the target by logits (B, C)."""
        if self.score_of is None:
            raise RuntimeError("this pass does not say its target")
        return self.score_of(logits)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        """Type in which relevance is added up: float32, or that of wider maps."""
        return torch.promote_types(self._last.dtype, torch.float32)

    @property
    def _last(self) -> Tensor:
        if self.halves is not None:
            return self.halves.last[0]
        return self.inputs[-1].queries if self.inputs else self.attention.maps[-1]

    @property
    def tokens(self) -> Layout:
        """The layout, for methods that said they need attention."""
        if self.layout is None:
            raise RuntimeError("this method needs attention: add 'attention' to its `needs`")
        return self.layout

    def layers(self) -> list[MixedLayer]:
        """The recorded layers from the start layer on, checked against the layout.

        Raises:
            UnsupportedModelError: If a map is not one over the tokens that the layout expects.
            VitreousError: If the start layer does not exist.
        """
        layers = [self._checked(layer) for layer in self.attention.layers]
        recorded = {name.removeprefix("net.") for name in self.attention.names}
        if missing := [name for name in self.tokens.layers if name not in recorded]:
            raise UnsupportedModelError(
                f"{len(missing)} attention layers made no map in this pass ({missing[0]}), so the "
                f"relevance of the others would not be that of the model; {WITHOUT_ATTENTION}"
            )
        self.check_start(len(layers))
        return layers[self.start_layer :]

    def input_layers(self) -> list[tuple[AttentionInputs, TokenMixing]]:
        """`inputs` from the start layer on, checked against the layout as `layers` does.

        Raises:
            UnsupportedModelError: If a layer does not mix tokens as the layout expects.
            VitreousError: If the start layer does not exist.
        """
        layers = [(layer, self.mixing_of(layer)) for layer in self.inputs]
        self.check_start(len(layers))
        return layers[self.start_layer :]

    def mixing_of(self, layer: AttentionInputs | ShownAttention) -> TokenMixing:
        """How a layer mixes; raises UnsupportedModelError where that is not as expected."""
        shape = (layer.queries.shape[-2], layer.keys.shape[-2])
        return self._mixing(layer.name, shape, layer.held, shape)

    def _mixing(
        self, name: str, size: tuple[int, int], held: slice, shown: tuple[int, ...]
    ) -> TokenMixing:
        """How a layer mixes, by the size of its map; raises UnsupportedModelError."""
        mixing = self.tokens.layers.get(name.removeprefix("net."))
        if mixing is None or not self.tokens.fits(mixing, size, held):
            raise self._misfit(name, shown)
        return mixing

    def check_start(self, count: int) -> None:
        """Refuse a start layer that does not exist; raises VitreousError."""
        if not 0 <= self.start_layer < count:
            raise VitreousError(
                f"start layer {self.start_layer} does not exist: the model has {count} "
                f"attention layers, 0 to {count - 1}"
            )

    def _misfit(self, name: str, shape: tuple[int, ...]) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"attention layer '{name}' has a map of shape {shape}, which is not one over all "
            "tokens of the image, so attention relevance does not hold for this model; "
            f"{WITHOUT_ATTENTION}"
        )

    def _checked(self, layer: RecordedLayer) -> MixedLayer:
        queries, keys = layer.map.shape[-2:]
        mixing = self._mixing(layer.name, (queries, keys), layer.queries, tuple(layer.map.shape))
        return MixedLayer(layer.map, mixing, layer.queries)

    def maps(self) -> list[Tensor]:
        """Attention of `layers()`, each (B, heads, queries, keys)."""
        return self.attention.maps[self.start_layer :]

    def gradients(self) -> list[Tensor]:
        """Gradients of the score with respect to `maps()`, all by one backward pass."""
        return self.attention.gradients(
            self.score,
            create_graph=self.second_order,
            retain_graph=self.retain_graph or self.second_order,
            start=self.start_layer,
        )

    def start_rows(self) -> list[Tensor]:
        """For each stream the row (B, tokens) that the head reads."""
        device, count = self._last.device, self.images.shape[0]
        return [s.start.to(device, self.dtype).expand(count, -1) for s in self.tokens.streams]


class Method(Protocol):
    """A relevance method: what it needs, and a call that returns maps not yet scaled.

    Attributes:
        needs: Any of `attention`, `input_gradients`, `model` (the method makes passes of its own,
            and no loss can be derived from its maps); with `attention_inputs` beside `attention`,
            the layers' inputs serve in place of their maps.

    Examples:
        >>> from vitreous.attribution import METHODS
        >>> sorted(METHODS["gradient_attention"].needs), sorted(METHODS["occlusion"].needs)
        (['attention', 'attention_inputs'], ['model'])
    """

    needs: ClassVar[frozenset[str]]

    def __call__(self, recorded: RecordedPass) -> Tensor:
        """Return maps (B, 1, H, W), larger = more relevant, of any scale."""
        ...


@runtime_checkable
class Particular(Protocol):
    """A method that has a rule of its own for which networks it holds."""

    def unfit(self, net: Network, size: tuple[int, int]) -> str:
        """Why it does not hold for a network and an image size; empty where it does."""
        ...


def unfit(method: Method, net: Network, size: tuple[int, int]) -> str:
    """Why a method does not hold for a network and an image size, as far as can be told unrun.

    A method with a rule of its own says so too, see `Particular`.

    Returns:
        The reason, without a list of methods; empty where the method holds.
    """
    try:
        if "attention" in method.needs:
            layout_of(net, size)
        return method.unfit(net, size) if isinstance(method, Particular) else ""
    except UnsupportedModelError as error:
        return str(error).removesuffix(f"; {WITHOUT_ATTENTION}")


def require_fit(name: str, net: Network, size: tuple[int, int]) -> None:
    """Refuse a method that does not hold for a network: why, and which do.

    Raises:
        UnsupportedModelError: If it does not.
    """
    if reason := unfit(METHODS[name], net, size):
        working = ", ".join(other for other in METHODS if not unfit(METHODS[other], net, size))
        raise UnsupportedModelError(f"{reason}; these methods work: {working}")


METHODS: Registry[Method] = Registry("relevance method", "vitreous.attribution")
