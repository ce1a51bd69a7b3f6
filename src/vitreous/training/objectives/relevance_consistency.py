"""Relevance that turns with the image and stays under attack: guidance that needs no mask."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.attacks.randomness import draw
from vitreous.data.rotation import turn_each
from vitreous.ranges import at_least
from vitreous.training.objectives.base import (
    OBJECTIVES,
    LossTerm,
    MapsWanted,
    Step,
    WeightedObjective,
)
from vitreous.training.objectives.classification import Target, target_classes
from vitreous.training.objectives.relevance import check_method, maps_of_step, recorded_needs


@OBJECTIVES.register("relevance_consistency")
@dataclasses.dataclass(frozen=True)
class RelevanceConsistency(WeightedObjective):
    """`turn · MSE(T⁻¹ R(T x'), R(x')) + attack · MSE(R(x'), R(x))`, over all rows.

    R is the relevance map of one class, scaled to [0, 1]; T turns each image by 90, 180 or 270
    degrees at random; x is the clean image and x' what the adversary made of it. Neither term
    asks where relevance lies, only that it stays there, so both together with an objective that
    says where (`relevance` on the rows that have masks) make most sense: a map that is the same
    for every image would satisfy the second term.

    Attributes:
        weight: Factor in the sum.
        turn: Factor of the term of turned images; 0 saves its forward pass.
        attack: Factor of the term of attacked images, which is 0 without an adversary; 0 saves
            its forward pass.
        target: Class whose maps are compared, the same for both: the label, or what the model
            predicts for the image as fed.
        start_layer: First attention layer that counts.
        second_order: Derive through the gradients of attention too.
        method: Relevance method; one that needs attention.
    """

    turn: Annotated[float, at_least(0)] = 1.0
    attack: Annotated[float, at_least(0)] = 1.0
    target: Target = "label"
    start_layer: Annotated[int, at_least(0)] = 0
    second_order: bool = False
    method: str = "gradient_attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_method(self.method)

    @property
    def needs(self) -> frozenset[str]:
        """What the method needs."""
        return recorded_needs(self.method, self.second_order)

    @property
    def maps_wanted(self) -> MapsWanted | None:
        """Its maps, of the pictures as fed, of turned and of clean ones."""
        return MapsWanted(self.method, self.start_layer, self.target, self.second_order)

    def __call__(self, step: Step) -> LossTerm:
        """Return the weighted sum of both terms, each a mean over all pixels and rows."""
        classes = target_classes(step, self.target)
        maps = self.maps(step, classes)
        loss, log = step.zero(), {}
        if self.turn:
            turned = self.turned_maps(step, classes)
            log["turn"] = F.mse_loss(turned, maps)
            loss = loss + self.turn * log["turn"]
        clean = self.on_clean(step, classes) if self.attack else step
        if clean is not step:
            log["attack"] = F.mse_loss(maps, self.maps(clean, classes))
            loss = loss + self.attack * log["attack"]
        return LossTerm(loss, {name: value.detach() for name, value in log.items()})

    def maps(self, step: Step, classes: Tensor) -> Tensor:
        """Relevance maps (B, 1, H, W) of a recorded pass."""
        maps, _ = maps_of_step(
            step,
            classes,
            method=self.method,
            start_layer=self.start_layer,
            second_order=self.second_order,
        )
        return maps

    def on_clean(self, step: Step, classes: Tensor) -> Step:
        """The step on the clean images, with the maps of what is predicted for those as fed."""
        return step.on_clean_of(classes if self.target == "prediction" else None)

    def turned_maps(self, step: Step, classes: Tensor) -> Tensor:
        """Maps (B, 1, H, W) of the turned images, turned back; by 180° only if not square."""
        images = step.batch.images.detach()
        square = images.shape[-1] == images.shape[-2]
        turns = torch.full((len(images),), 2)
        if square:
            turns = draw(torch.randint, (len(images),), turns, None, 1, 4)
        turned = step.again(turn_each(images, turns), recorded=True, classes=classes)
        return turn_each(self.maps(turned, classes), -turns)
