"""TRADES: accuracy on clean images, and the same answer on perturbed ones."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from torch.nn import functional as F

from vitreous.errors import VitreousError
from vitreous.ranges import at_least
from vitreous.training.objectives.base import OBJECTIVES, LossTerm, Step, WeightedObjective


@OBJECTIVES.register("trades")
@dataclasses.dataclass(frozen=True)
class Trades(WeightedObjective):
    """`CE(f(x), y) + β · KL(f(x) ‖ f(x'))` (Zhang et al. 2019, eq. 5), instead of classification.

    x' comes from the recipe's adversary; TRADES's own is `pgd` with `loss: kl`.

    Attributes:
        weight: Factor in the sum.
        beta: Weight of the divergence.
    """

    weight: Annotated[float, at_least(0)] = 1.0
    beta: Annotated[float, at_least(0)] = 6.0
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, step: Step) -> LossTerm:
        """Return the loss; it costs one more forward pass, of the clean images.

        Raises:
            VitreousError: In training without an adversary.
        """
        if step.clean is step.batch.images:
            if step.model.training:
                raise VitreousError(
                    "objective trades compares clean with perturbed pictures and the recipe has "
                    "no adversary; set adversary {name: pgd, loss: kl}"
                )
            clean = step.logits.float()
        else:
            passes = step.passes
            clean = (step.model if passes is None else passes.logits)(step.clean).float()
        natural = F.cross_entropy(clean, step.batch.labels)
        divergence = F.kl_div(
            F.log_softmax(step.logits.float(), dim=1),
            F.log_softmax(clean, dim=1),
            log_target=True,
            reduction="batchmean",
        )
        figures = {"natural": natural.detach(), "divergence": divergence.detach()}
        return LossTerm(natural + self.beta * divergence, figures)
