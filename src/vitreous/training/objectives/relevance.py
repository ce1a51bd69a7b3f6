"""Relevance on the object and not on the background: the objective of RobustViT."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.attribution import METHODS, foreground_share, min_max, recorded_pass
from vitreous.models.families import layout_of
from vitreous.ranges import at_least
from vitreous.training.objectives.base import (
    OBJECTIVES,
    LossTerm,
    MapsWanted,
    Step,
    WeightedObjective,
)
from vitreous.training.objectives.classification import Target, target_classes


def check_method(method: str) -> None:
    """Refuse a relevance method that does not work on recorded attention."""
    if method not in METHODS or "attention" not in METHODS[method].needs:
        names = [name for name in METHODS if "attention" in METHODS[name].needs]
        raise ValueError(f"method: found '{method}', expected one of {', '.join(names)}")


def recorded_needs(method: str, second_order: bool) -> frozenset[str]:
    """What an objective that uses a relevance method needs: whole maps for the second order."""
    needs = METHODS[method].needs
    return needs - {"attention_inputs"} if second_order else needs


def maps_of_step(
    step: Step,
    classes: Tensor,
    *,
    method: str = "gradient_attention",
    start_layer: int = 0,
    second_order: bool = False,
) -> tuple[Tensor, Tensor]:
    """Relevance maps of a recorded step, differentiable; gradients of attention are constants.

    Args:
        step: A step whose pass was recorded.
        classes: (B,) class whose map is taken.
        method: Relevance method; one that needs attention.
        start_layer: First attention layer that counts.
        second_order: Make the gradients of attention differentiable too.

    Returns:
        Maps (B, 1, H, W) in [0, 1], and which (B,) were constant, and so are all zeros.
    """
    if step.forward.maps is not None:
        maps, constant = step.forward.maps
        return maps + step.zero(), constant
    size = (step.batch.images.shape[-2], step.batch.images.shape[-1])
    layout = layout_of(step.classifier.net, size)
    derived_twice = second_order and torch.is_grad_enabled()
    recorded = recorded_pass(step.forward, classes, layout, start_layer, derived_twice)
    maps, constant = min_max(METHODS[method](recorded))
    # A block that is cut among processes is put together where a gradient reaches its output, and
    # that of a map reaches its inside alone.
    return maps + step.zero(), constant


@OBJECTIVES.register("relevance")
@dataclasses.dataclass(frozen=True)
class Relevance(WeightedObjective):
    """`background · MSE(R ∘ (1 - M), 0) + foreground · MSE(R ∘ M, M)`.

    From Chefer et al. 2022, equations 2 to 4. R is the relevance map of the target class, scaled
    to [0, 1], and M the mask; rows without a mask do not count.

    Attributes:
        weight: Factor in the sum.
        background: Factor of the term that asks for none on the background.
        foreground: Factor of the term that asks for relevance on the object.
        target: Class whose map is taken.
        start_layer: First attention layer that counts.
        second_order: Derive through the gradients of attention too. The paper holds them
            constant; the two are not the same method.
        method: Relevance method; one that needs attention.
        images: Take the map of the images as fed, which the adversary has `perturbed`, or of
            the `clean` ones, at the cost of a second forward pass; one and the same without an
            adversary.
    """

    weight: Annotated[float, at_least(0)] = 1.0
    background: Annotated[float, at_least(0)] = 2.0
    foreground: Annotated[float, at_least(0)] = 0.3
    target: Target = "label"
    start_layer: Annotated[int, at_least(0)] = 0
    second_order: bool = False
    method: str = "gradient_attention"
    images: Literal["perturbed", "clean"] = "perturbed"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_method(self.method)

    @property
    def needs(self) -> frozenset[str]:
        """Masks, and what the method needs; whole maps where they are derived twice."""
        return recorded_needs(self.method, self.second_order) | {"masks"}

    @property
    def maps_wanted(self) -> MapsWanted | None:
        """Its maps, of the pictures as fed or of the clean ones."""
        return MapsWanted(self.method, self.start_layer, self.target, self.second_order)

    def __call__(self, step: Step) -> LossTerm:
        """Return the weighted sum of both terms, each a mean over all pixels of masked rows."""
        rows = step.batch.has_mask
        if not rows.any():
            return LossTerm(step.zero(), reduction="masked_mean")
        maps, constant = self.maps(step)
        maps, masks = maps[rows], step.batch.masks[rows]
        background = F.mse_loss(maps * (1 - masks), torch.zeros_like(maps))
        foreground = F.mse_loss(maps * masks, masks.expand_as(maps))
        log = {
            "background": background.detach(),
            "foreground": foreground.detach(),
            "foreground_share": foreground_share(maps.detach(), masks).mean(),
            "constant_maps": constant[rows].float().mean(),
        }
        loss = self.background * background + self.foreground * foreground
        return LossTerm(loss, log, "masked_mean")

    def maps(self, step: Step) -> tuple[Tensor, Tensor]:
        """Relevance maps (B, 1, H, W) of the step, and which (B,) are constant."""
        seen = step.on_clean if self.images == "clean" else step
        return maps_of_step(
            seen,
            target_classes(seen, self.target),
            method=self.method,
            start_layer=self.start_layer,
            second_order=self.second_order,
        )
